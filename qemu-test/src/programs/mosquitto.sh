# Three publishers, two subscribers: each of these gets every message once, and
# who comes later gets what is retained.
set -e
publish() { mosquitto_pub -h 127.0.0.1 -q 2 "$@"; }
subscribe() { mosquitto_sub -h 127.0.0.1 -q 2 "$@"; }
until publish -t up -m yes -r 2>/dev/null; do sleep 1; done
[ "$(subscribe -t up -C 1)" = yes ]
for subscriber in 1 2; do
	subscribe -i subscriber-$subscriber -c -t 'load/#' -E
	subscribe -i subscriber-$subscriber -c -t 'load/#' -C 300 >/tmp/got-$subscriber &
done
for publisher in 1 2 3; do
	seq ${publisher}001 ${publisher}100 | publish -t load/$publisher -l &
done
wait
seq 1001 1100 >/tmp/sent
seq 2001 2100 >>/tmp/sent
seq 3001 3100 >>/tmp/sent
for subscriber in 1 2; do
	sort -n /tmp/got-$subscriber | cmp - /tmp/sent
done
