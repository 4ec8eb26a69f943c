'use strict'
// Starts one service of a Platformatic project, as Platformatic does: a module that exports `create` or `build`, one that listens by
// itself, an application whose code is a package, or files. What it is to start is in WATT_NODE. Every service runs alone, on a network
// of its own, so that it may listen where it likes; what it listens on, watt finds out.
const fs = require('node:fs')
const http = require('node:http')
const path = require('node:path')
const { EventEmitter } = require('node:events')
const { createRequire } = require('node:module')
const { pathToFileURL } = require('node:url')

const settings = JSON.parse(process.env.WATT_NODE)
const port = Number(process.env.PORT ?? 8080)
const hostname = '127.0.0.1'
const root = process.cwd()
// What the service starts itself is no service.
delete process.env.WATT_NODE
delete process.env.WATT_NODE_LOADER
const evaluated = process.execArgv.indexOf('--eval')
if (evaluated >= 0) process.execArgv.splice(evaluated, 2)
const given = process.argv.slice(process.argv[1] === __filename ? 2 : 1)
process.argv = [process.argv[0], path.resolve(given[0] ?? ''), ...given.slice(1)]

const ofProject = createRequire(path.join(root, 'package.json'))
const levels = { trace: 10, debug: 20, info: 30, warn: 40, error: 50, fatal: 60 }

// Pino where the project has it, else what writes the same lines.
function makeLogger () {
  const level = process.env.PLT_LOG_LEVEL || 'info'
  try {
    return ofProject('pino')({ level })
  } catch {
    return plainLogger(level, {})
  }
}

function plainLogger (level, bindings) {
  const logger = { level, bindings: () => bindings, child: more => plainLogger(logger.level, { ...bindings, ...more }), flush () {}, silent () {} }
  for (const [name, number] of Object.entries(levels)) {
    logger[name] = (first, ...rest) => {
      if (number < (levels[logger.level] ?? Infinity)) return
      const isText = typeof first === 'string'
      const fields = first instanceof Error ? { err: { type: first.name, message: first.message, stack: first.stack } } : isText ? {} : first
      const words = isText ? [first, ...rest] : rest
      const msg = words.length > 0 ? require('node:util').format(...words) : first instanceof Error ? first.message : undefined
      process.stdout.write(JSON.stringify({ level: number, time: Date.now(), pid: process.pid, ...bindings, ...fields, msg }) + '\n')
    }
  }
  return logger
}

const logger = makeLogger()
const events = new EventEmitter()
events.emitAndNotify = events.emit.bind(events)

const told = new Set()
function unsupported (what, instead) {
  if (!told.has(what)) logger.warn(`platformatic.${what} does nothing under watt: ${instead}`)
  told.add(what)
}
function refuses (what, instead) {
  return async () => { throw new Error(`platformatic.${what} is not there under watt: ${instead}`) }
}
const byHttp = 'services call each other by HTTP, as http://NAME.plt.local'

const checks = { health: null, readiness: null }
const noop = () => {}
globalThis.platformatic = Object.assign(globalThis.platformatic ?? {}, {
  applicationId: process.env.WATT_SERVICE,
  serviceId: process.env.WATT_SERVICE,
  workerId: Number(process.env.WATT_WORKER ?? 0),
  root: pathToFileURL(root).toString(),
  basePath: settings.base ?? undefined,
  runtimeBasePath: null,
  isEntrypoint: settings.isEntrypoint === true,
  isBuilding: false,
  isProduction: true,
  logLevel: logger.level,
  logger,
  events,
  // What is served where is said by the configuration.
  setBasePath (base) { globalThis.platformatic.basePath = base },
  setOpenapiSchema: noop,
  setGraphqlSchema: noop,
  setConnectionString: noop,
  notifyConfig: noop,
  setCustomHealthCheck (check) { checks.health = check },
  setCustomReadinessCheck (check) { checks.readiness = check },
  sendHealthSignal: async () => unsupported('sendHealthSignal', '`health` of a watt.yaml is what watt looks at'),
  invalidateHttpCache: async () => unsupported('invalidateHttpCache', '`wattctl cache purge` does it'),
  messaging: {
    handle: () => unsupported('messaging.handle', byHttp),
    send: refuses('messaging.send', byHttp),
    notify: refuses('messaging.notify', byHttp)
  },
  sharedContext: {
    get: refuses('sharedContext.get', 'keep what services share in one of them, or in a database'),
    update: refuses('sharedContext.update', 'keep what services share in one of them, or in a database')
  }
})

// The answer for the event loop, and for what the service checks itself. Clients do not get it: theirs come with X-Forwarded-For.
const HEALTH = '/.watt/health'
const emit = http.Server.prototype.emit
for (const prototype of [http.Server.prototype, require('node:https').Server.prototype]) {
  prototype.emit = function (event, request, response, ...rest) {
    if (event !== 'request' || request.url !== HEALTH || request.headers['x-forwarded-for'] !== undefined) {
      return emit.call(this, event, request, response, ...rest)
    }
    answer(response)
    return true
  }
}

async function answer (response) {
  let isWell = true
  for (const check of [checks.health, checks.readiness]) {
    try {
      const said = check ? await check() : true
      isWell &&= typeof said === 'object' && said !== null ? said.status !== false : said !== false
    } catch (error) {
      logger.error({ err: { message: error.message, stack: error.stack } }, 'the health check failed')
      isWell = false
    }
  }
  response.writeHead(isWell ? 200 : 503, { 'content-type': 'text/plain', 'content-length': isWell ? 2 : 3 })
  response.end(isWell ? 'OK' : 'ERR')
}

const closers = []
let isClosing = false
process.on('SIGTERM', close)
process.on('SIGINT', close)
async function close (signal) {
  if (isClosing) return
  isClosing = true
  const isHeard = events.emit('close')
  if (closers.length === 0 && !isHeard) {
    // A service that has a handler of its own ends by itself.
    if (process.listenerCount(signal) === 1) process.exit(0)
    return
  }
  try {
    for (const closer of closers) await closer()
    process.exit(0)
  } catch (error) {
    logger.error({ err: { message: error.message, stack: error.stack } }, 'the service could not be closed')
    process.exit(1)
  }
}

async function load (file) {
  const absolute = path.resolve(root, file)
  let found = absolute
  try {
    found = ofProject.resolve(absolute)
  } catch {}
  return import(pathToFileURL(found))
}

function listening (server) {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    if (server.listening) return resolve(server)
    server.once('listening', () => resolve(server))
  })
}

function closes (server) {
  return () => new Promise(resolve => {
    server.close(resolve)
    server.closeIdleConnections?.()
  })
}

async function startModule () {
  const loaded = await load(settings.main)
  const forms = [loaded.default?.default, loaded.default, loaded].filter(Boolean)
  const form = forms.find(form => typeof form.create === 'function' || typeof form.build === 'function')
  const closer = forms.find(form => typeof form.close === 'function' && form !== loaded.default?.server)
  if (settings.hasServer === false) {
    if (closer) closers.push(() => closer.close())
    return
  }
  if (forms.some(form => form.hasServer === false)) {
    logger.error('this service exports `hasServer = false`: write `"node": { "hasServer": false }` into its watt.json as well, so that watt does not wait until it listens')
  }
  if (!form) {
    // It listens by itself.
    if (closer && typeof closer !== 'function') closers.push(() => closer.close())
    return
  }
  if (closer && closer === form) closers.push(() => closer.close())
  const app = await (form.build ?? form.create).call(form)
  if (Object.getOwnPropertySymbols(app).some(symbol => symbol.description === 'fastify.state')) {
    closers.push(() => app.close())
    await app.ready()
    await app.listen({ host: hostname, port })
    return
  }
  if (app?.[Symbol.asyncDispose ?? Symbol.for('none')] && typeof app.listen !== 'function') closers.push(() => app[Symbol.asyncDispose]())
  let server
  if (typeof app.listen === 'function') {
    server = app.listening ? app : app.listen({ host: hostname, port })
    // What listens asynchronously, as NestJS, has its server somewhere.
    server = await server
  } else if (typeof app === 'function') {
    server = http.createServer(app).listen({ host: hostname, port })
  } else {
    throw new Error(`what ${form.build ? 'build' : 'create'}() of ${settings.main} returns cannot listen: it is no server of Node.js, Fastify, Express or Koa`)
  }
  server = typeof server?.once === 'function' ? server : app
  if (typeof server.once === 'function' && typeof server.close === 'function') {
    await listening(server)
    closers.push(closes(server))
  }
}

async function startPackage () {
  const name = settings.package
  const module = await import(pathToFileURL(ofProject.resolve(name)))
  const create = module.create ?? module.default?.create
  const context = { applicationId: process.env.WATT_SERVICE, serviceId: process.env.WATT_SERVICE, isProduction: true, production: true, isEntrypoint: true, serverConfig: { hostname, port } }
  if (create) {
    const app = await create(root, settings.config ? path.resolve(root, settings.config) : undefined, context)
    closers.push(() => app.stop())
    await app.init?.()
    await app.start({ listen: true })
    return
  }
  const build = module.buildServer ?? module.default?.buildServer
  if (!build) throw new Error(`the package ${name} exports neither create nor buildServer, so it cannot be started`)
  const app = await build(path.resolve(root, settings.config ?? 'platformatic.json'))
  closers.push(() => app.close())
  await (app.start ? app.start() : app.listen({ host: hostname, port }))
}

const TYPES = {
  '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.mjs': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8',
  '.json': 'application/json', '.map': 'application/json', '.svg': 'image/svg+xml', '.png': 'image/png', '.jpg': 'image/jpeg', '.jpeg': 'image/jpeg',
  '.gif': 'image/gif', '.webp': 'image/webp', '.avif': 'image/avif', '.ico': 'image/x-icon', '.woff': 'font/woff', '.woff2': 'font/woff2',
  '.txt': 'text/plain; charset=utf-8', '.xml': 'application/xml', '.wasm': 'application/wasm', '.pdf': 'application/pdf', '.webmanifest': 'application/manifest+json'
}

// Files that were built. Nothing leads out of their folder: the real path, links followed, has to be in it.
async function startFiles () {
  const folder = await fs.promises.realpath(path.resolve(root, settings.files))
  const base = settings.base ?? ''
  const find = async name => {
    try {
      const real = await fs.promises.realpath(path.join(folder, name))
      if (real !== folder && !real.startsWith(folder + path.sep)) return null
      const stat = await fs.promises.stat(real)
      if (stat.isDirectory()) return name.endsWith('/index.html') ? null : await find(path.join(name, '/index.html'))
      return stat.isFile() ? { real, stat } : null
    } catch {
      return null
    }
  }
  const server = http.createServer(async (request, response) => {
    const refuse = status => {
      response.writeHead(status, { 'content-type': 'text/plain', 'content-length': 0 })
      response.end()
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') return refuse(405)
    let name
    try {
      name = decodeURIComponent(new URL(request.url, 'http://x').pathname)
    } catch {
      return refuse(400)
    }
    if (base && (name === base || name.startsWith(base + '/'))) name = name.slice(base.length) || '/'
    if (name.includes('\0') || name.split('/').some(part => part.startsWith('.') && part !== '.well-known')) return refuse(404)
    let [found, status] = [await find(name), 200]
    if (!found && settings.notFound) [found, status] = [await find('/' + settings.notFound.path), settings.notFound.status]
    if (!found) return refuse(404)
    const etag = `"${found.stat.size.toString(16)}-${Math.floor(found.stat.mtimeMs).toString(16)}"`
    const headers = { etag, 'content-type': TYPES[path.extname(found.real).toLowerCase()] ?? 'application/octet-stream', 'cache-control': 'no-cache' }
    if (status === 200 && request.headers['if-none-match'] === etag) {
      response.writeHead(304, headers)
      return response.end()
    }
    response.writeHead(status, { ...headers, 'content-length': found.stat.size })
    if (request.method === 'HEAD') return response.end()
    fs.createReadStream(found.real).on('error', () => response.destroy()).pipe(response)
  })
  server.listen({ host: hostname, port })
  closers.push(closes(server))
  await listening(server)
}

async function start () {
  if (settings.package) return startPackage()
  if (settings.files) return startFiles()
  return startModule()
}

start().then(() => events.emit('start'), error => {
  // Without the ways of Node.js and of this program, so that the last lines of output say what it is.
  const lines = (error?.stack ?? String(error)).split('\n')
  process.stderr.write(lines.filter(line => !/^ +at .*(node:internal\/|watt-node\.cjs)/.test(line)).join('\n') + '\n')
  process.exit(1)
})
