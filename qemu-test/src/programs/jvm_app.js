// The program, for Rhino on the JVM: a thread for each client; `digest TEXT` and
// `count WORD`, which is the same for all of them.
var counts = new java.util.concurrent.ConcurrentHashMap();
var server = new java.net.ServerSocket(8000);

function answer(line) {
  var text = line.substring(line.indexOf(' ') + 1);
  if (line.startsWith('count ')) {
    var fresh = new java.util.concurrent.atomic.AtomicInteger();
    var old = counts.putIfAbsent(text, fresh);
    return String((old || fresh).incrementAndGet());
  }
  var bytes = new java.lang.String(text).getBytes('UTF-8');
  var sum = java.security.MessageDigest.getInstance('SHA-256').digest(bytes);
  return new java.lang.String(java.lang.String.format('%064x', new java.math.BigInteger(1, sum)));
}

function serve(client) {
  var input = new java.io.BufferedReader(
    new java.io.InputStreamReader(client.getInputStream(), 'UTF-8'));
  var output = new java.io.PrintWriter(client.getOutputStream(), true);
  for (var line = input.readLine(); line !== null; line = input.readLine()) {
    output.println(answer(line));
  }
  client.close();
}

for (;;) {
  (function (client) {
    new java.lang.Thread(function () { serve(client); }).start();
  })(server.accept());
}
