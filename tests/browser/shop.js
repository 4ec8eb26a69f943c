// Opens the shop in headless chromium through chromedriver (W3C WebDriver) and uses every part of it: products are there, choosing one
// shows recommendations, buying one shows an order, and prices come in over the WebSocket.
// usage: node shop.js URL
'use strict'
const { spawn } = require('node:child_process')
const { mkdtempSync, rmSync } = require('node:fs')

const shop = process.argv[2]
const profile = mkdtempSync('/tmp/watt-browser-')

async function call (base, method, path, body) {
  const answer = await fetch(base + path, { method, body: body && JSON.stringify(body) })
  const { value } = await answer.json()
  if (!answer.ok) throw new Error(`${method} ${path}: ${value.error}: ${value.message}`)
  return value
}

/** Asks the page until the answer is true; the page's own text is in the failure. */
async function until (run, what, script) {
  const end = Date.now() + 30_000
  for (;;) {
    if (await run(script)) return console.log('ok:', what)
    if (Date.now() > end) throw new Error(`in vain: ${what}\n${await run('return document.body.innerText')}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

async function main () {
  const driver = spawn('chromedriver', ['--port=0', '--allowed-ips=127.0.0.1'], { stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    const port = await new Promise((resolve, reject) => {
      let text = ''
      driver.stdout.on('data', (data) => {
        text += data
        const match = /started successfully on port (\d+)/.exec(text)
        if (match) resolve(match[1])
      })
      driver.on('exit', () => reject(new Error('chromedriver ended: ' + text)))
    })
    const base = `http://127.0.0.1:${port}`
    const args = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', `--user-data-dir=${profile}`]
    const capabilities = { alwaysMatch: { browserName: 'chrome', 'goog:chromeOptions': { args } } }
    const { sessionId } = await call(base, 'POST', '/session', { capabilities })
    const session = `/session/${sessionId}`
    const run = (script) => call(base, 'POST', session + '/execute/sync', { script, args: [] })
    await call(base, 'POST', session + '/url', { url: shop })
    await until(run, 'five products from api', 'return document.querySelectorAll("article").length === 5')
    await run('document.querySelector("#product-1").click()')
    await until(run, 'recommendations from Python', 'return document.querySelector("#recommendations").innerText.includes("Coffee beans")')
    await run('document.querySelector("#product-5 button").click()')
    await until(run, 'an order kept by Rust and SQLite', 'return document.querySelector("#orders").innerText.includes("Cup")')
    await until(run, 'live prices over the WebSocket', 'return document.querySelector("#live").innerText === "live"')
    await call(base, 'DELETE', session)
  } finally {
    driver.kill()
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 })
  }
}

main().catch((error) => {
  console.error(error.message)
  process.exit(1)
})
