// The program: digests and sorts what is posted, and counts who asked.
const http = require('http');
const crypto = require('crypto');

const asked = {};
http.createServer(async (request, response) => {
  let body = '';
  request.setEncoding('utf8');
  for await (const piece of request) body += piece;
  const numbers = body ? JSON.parse(body) : [];
  const client = request.url.slice(1);
  asked[client] = (asked[client] ?? 0) + 1;
  const digest = crypto.createHash('sha256').update(body).digest('hex');
  const sorted = numbers.sort((a, b) => a - b);
  response.setHeader('Content-Type', 'application/json');
  response.end(JSON.stringify({ digest, sorted, asked: asked[client] }));
}).listen(8000);
