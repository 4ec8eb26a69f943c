'use strict'
const $ = (id) => document.getElementById(id)
const euros = (cents) => (cents / 100).toFixed(2) + ' €'

async function json (path, options) {
  const response = await fetch(path, options)
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`)
  return response.json()
}

async function showProducts () {
  for (const product of await json('/api/products')) {
    const card = document.createElement('article')
    card.id = 'product-' + product.id
    card.innerHTML = '<h3></h3><p class="price"></p><button>Buy</button>'
    card.querySelector('h3').textContent = product.name
    card.querySelector('.price').textContent = euros(product.price)
    card.addEventListener('click', () => choose(product))
    card.querySelector('button').addEventListener('click', (event) => {
      event.stopPropagation()
      buy(product)
    })
    $('products').append(card)
  }
}

async function choose (product) {
  for (const card of document.querySelectorAll('article')) card.classList.remove('chosen')
  $('product-' + product.id).classList.add('chosen')
  list('recommendations', (await json(`/api/products/${product.id}/recommendations`)).map((other) => other.name))
}

async function buy (product) {
  await json('/api/orders', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ product: product.id })
  })
  await showOrders()
}

async function showOrders () {
  list('orders', (await json('/api/orders')).map((order) => `${order.name}, ${euros(order.price)}`))
}

function list (id, texts) {
  $(id).replaceChildren(...texts.map((text) => {
    const item = document.createElement('li')
    item.textContent = text
    return item
  }))
}

function followPrices () {
  const socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ticker`)
  socket.onmessage = (message) => {
    const { id, price, change } = JSON.parse(message.data)
    const cell = document.querySelector(`#product-${id} .price`)
    if (!cell) return
    cell.textContent = euros(price)
    cell.className = 'price ' + (change < 0 ? 'down' : 'up')
    $('live').textContent = 'live'
  }
  socket.onclose = () => {
    $('live').textContent = 'not live'
    setTimeout(followPrices, 1000)
  }
}

showProducts().then(followPrices).then(showOrders).catch((error) => {
  $('products').innerHTML = '<p class="error"></p>'
  $('products').firstChild.textContent = error.message
})
