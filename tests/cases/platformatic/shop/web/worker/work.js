console.log('the worker works')
setInterval(async () => {
  const answer = await fetch('http://orders.plt.local/list')
  console.log(`orders said ${answer.status}`)
}, 200)
