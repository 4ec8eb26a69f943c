// The page and its two files. Everything the page shows comes from /api and /ticker.
'use strict'
const { createServer } = require('node:http')
const { readFile } = require('node:fs/promises')
const path = require('node:path')

const types = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css' }
const files = { '/': 'index.html', '/shop.js': 'shop.js', '/shop.css': 'shop.css' }

createServer(async (req, res) => {
  const name = files[new URL(req.url, 'http://storefront').pathname]
  if (!name) {
    res.writeHead(404, { 'content-type': 'text/plain' }).end('no such page\n')
    return
  }
  const body = await readFile(path.join(__dirname, 'public', name))
  res.writeHead(200, { 'content-type': types[path.extname(name)], 'content-length': body.length }).end(body)
}).listen(3000, () => console.log('storefront is open'))
