// What renders pages with Puppeteer or Playwright: a browser for each request. Root's wants no sandbox of its own.
const { execFile } = require("child_process");
const http = require("http");
const flags = ["--headless", "--disable-gpu", ...(process.getuid() === 0 ? ["--no-sandbox"] : [])];
http.createServer((_, response) => {
  const page = "data:text/html,<script>document.write('hello ' + 'from chromium')</script>";
  execFile("chromium", [...flags, "--dump-dom", page], (error, stdout, stderr) => {
    response.statusCode = error ? 500 : 200;
    response.end(error ? stderr : stdout);
  });
}).listen(process.env.PORT);
