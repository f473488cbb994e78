# Three clients insert rows until the postmaster is killed; what was
# acknowledged is there after crash recovery, and each row is whole.
set -e
query() { /usr/lib/postgresql/*/bin/psql -h 127.0.0.1 -U nobody -qtA -v ON_ERROR_STOP=1 postgres "$@"; }
until query -c 'SELECT 1' >/dev/null 2>&1; do sleep 1; done
query -c 'CREATE TABLE kept (n int PRIMARY KEY, body text)'
for client in 1 2 3; do
	seq ${client}0001 ${client}9999 |
		sed 's/.*/INSERT INTO kept VALUES (&, repeat(md5(&::text), 20)) RETURNING n;/' |
		query >/data/acknowledged-$client 2>/dev/null &
done
until [ "$(cat /data/acknowledged-* | wc -l)" -ge 200 ]; do sleep 0.2; done
postmaster=$(head -n 1 /data/base/postmaster.pid)
kill -9 "$postmaster"
wait || true
cat /data/acknowledged-* >/data/acknowledged
until query -c 'SELECT 1' >/dev/null 2>&1; do sleep 1; done
query -c 'SELECT n FROM kept ORDER BY n' >/data/found
missing=$(awk 'NR == FNR { found[$1]; next } !($1 in found)' /data/found /data/acknowledged | wc -l)
broken=$(query -c 'SELECT count(*) FROM kept WHERE body <> repeat(md5(n::text), 20)')
echo "missing $missing, broken $broken"
[ "$missing $broken" = '0 0' ]
# Each client may have had one on its way.
[ "$(wc -l </data/found)" -le $(($(wc -l </data/acknowledged) + 3)) ]
query -c 'INSERT INTO kept VALUES (1, 2)'
