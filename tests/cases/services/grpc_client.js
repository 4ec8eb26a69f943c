// Calls the gateway over HTTP/2: `calls` until its standard input ends, `stream` with a message for each line that it reads.
const http2 = require('node:http2')
const readline = require('node:readline')

const [address, way] = process.argv.slice(2)
const head = { ':method': 'POST', ':path': '/a.B/C', 'content-type': 'application/grpc', te: 'trailers' }

function call (session, message) {
  return new Promise((resolve, reject) => {
    const stream = session.request(head)
    let body = ''
    let trailers
    stream.on('error', reject)
    stream.on('data', data => { body += data })
    stream.on('trailers', fields => { trailers = fields })
    stream.on('end', () => {
      const fine = body === message && trailers?.['grpc-status'] === '0'
      fine ? resolve(trailers['grpc-message']) : reject(new Error(`${body} ${JSON.stringify(trailers)}`))
    })
    stream.end(message)
  })
}

async function calls () {
  let ended = false
  process.stdin.on('end', () => { ended = true }).resume()
  const told = { calls: 0, failures: [], workers: [], sessions: 0 }
  let session
  // Another one after GOAWAY, and not before.
  const connected = () => {
    if (!session || session.closed) {
      session = http2.connect(address)
      session.on('error', () => {})
      told.sessions++
      console.log(`session ${told.sessions}`)
    }
    return session
  }
  const one = async number => {
    for (let time = 0; !ended; time++) {
      const used = connected()
      try {
        const worker = await call(used, `message ${number}.${time}`)
        told.calls++
        if (!told.workers.includes(worker)) {
          told.workers.push(worker)
          console.log(`worker ${worker}`)
        }
      } catch (error) {
        // Asked for in the moment in which GOAWAY came: it was never sent, and is asked again as gRPC's clients do.
        const neverSent = used.closed && String(error).includes('REFUSED_STREAM')
        if (!neverSent) told.failures.push(String(error))
      }
    }
  }
  await Promise.all(Array.from({ length: 8 }, (_, number) => one(number)))
  connected().close()
  console.log(JSON.stringify(told))
}

function stream () {
  const session = http2.connect(address)
  const stream = session.request(head)
  stream.on('error', error => console.log(String(error)))
  stream.on('data', data => console.log(String(data)))
  stream.on('trailers', trailers => console.log(`status ${trailers['grpc-status']}`))
  stream.on('close', () => session.close())
  const lines = readline.createInterface({ input: process.stdin })
  lines.on('line', line => stream.write(line))
  lines.on('close', () => stream.end())
}

// A test that waits for what does not come is to fail, and not to wait for ever.
setTimeout(() => process.exit(1), 90_000).unref()
way === 'calls' ? calls() : stream()
