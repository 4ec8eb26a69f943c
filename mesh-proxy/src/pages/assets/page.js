// Shows openapi.json, which lies beside this. What it says is text, whatever it looks like: nothing of it becomes markup.
'use strict';

const METHODS = ['get', 'head', 'post', 'put', 'patch', 'delete', 'query', 'options', 'trace'];
let whole = {};

function make(tag, of, ...parts) {
  const made = document.createElement(tag);
  if (of) made.className = of;
  made.append(...parts.filter((part) => part !== undefined && part !== null && part !== ''));
  return made;
}

// What a reference leads to, through others, as far as that goes.
function found(value) {
  for (let hops = 0; value && typeof value.$ref === 'string' && hops < 20; hops += 1) {
    const path = value.$ref.startsWith('#/') ? value.$ref.slice(2).split('/') : [];
    const name = (part) => { try { return decodeURIComponent(part).replace(/~1/g, '/').replace(/~0/g, '~'); } catch { return part; } };
    const next = path.length ? path.reduce((at, part) => (at && Object.hasOwn(at, name(part)) ? at[name(part)] : undefined), whole) : undefined;
    if (next === undefined) return {};
    value = next;
  }
  return value && typeof value === 'object' ? value : {};
}

const entries = (map) => (map && typeof map === 'object' ? Object.entries(map) : []);
const list = (value) => (Array.isArray(value) ? value : []);
const text = (value) => (value === undefined || value === null ? '' : String(value));

// A schema in a few words.
function kind(schema, depth = 0) {
  if (schema === true || depth > 5) return 'anything';
  if (schema === false) return 'nothing';
  if (!schema || typeof schema !== 'object') return '';
  if (typeof schema.$ref === 'string') return schema.$ref.split('/').pop();
  for (const [word, join] of [['oneOf', ' or '], ['anyOf', ' or '], ['allOf', ' and ']]) {
    if (list(schema[word]).length) return list(schema[word]).slice(0, 8).map((one) => kind(one, depth + 1)).join(join);
  }
  const types = list(schema.type).length ? schema.type.join(' or ') : text(schema.type);
  if (types.includes('array')) return `${types} of ${kind(schema.items, depth + 1) || 'anything'}`;
  const values = list(schema.enum);
  if (values.length) return values.slice(0, 12).map((value) => JSON.stringify(value)).join(', ') + (values.length > 12 ? ', …' : '');
  if ('const' in schema) return JSON.stringify(schema.const);
  return [types || (schema.properties ? 'object' : ''), schema.format && `(${schema.format})`].filter(Boolean).join(' ');
}

const BOUNDS = ['minimum', 'exclusiveMinimum', 'maximum', 'exclusiveMaximum', 'multipleOf', 'minLength', 'maxLength', 'pattern', 'minItems', 'maxItems', 'default'];

function bounds(schema) {
  return BOUNDS.filter((word) => schema[word] !== undefined).map((word) => `${word} ${JSON.stringify(schema[word])}`).join(', ');
}

// Opened when somebody wants to see it: schemas may go round in circles.
function later(summary, fill) {
  const details = make('details', '', make('summary', '', ...summary));
  details.addEventListener('toggle', () => { if (details.open && details.childElementCount === 1) details.append(fill()); });
  return details;
}

// The parts of a schema that has some.
function inner(schema) {
  const at = found(schema);
  const items = found(at.items);
  const parts = [at, items, ...list(at.allOf).map(found)];
  return parts.some((part) => part.properties || list(part.oneOf).length || list(part.anyOf).length) ? parts : null;
}

function parts(schemas) {
  const shown = make('ul', 'parts');
  for (const schema of schemas) {
    for (const [name, property] of entries(schema.properties)) {
      shown.append(make('li', '', ...value(name, property, list(schema.required).includes(name))));
    }
    for (const choice of [...list(schema.oneOf), ...list(schema.anyOf)]) {
      shown.append(make('li', '', ...value('', choice, false)));
    }
  }
  return shown;
}

function value(name, schema, must) {
  const at = found(schema);
  const said = [
    name && make('code', '', name), ' ', make('span', 'kind', kind(schema)), ' ',
    must && make('span', 'must', 'required'), ' ', make('span', 'quiet', [bounds(at), text(at.description)].filter(Boolean).join(' · ')),
  ].filter(Boolean);
  const deeper = inner(schema);
  return deeper ? [later(said, () => parts(deeper))] : said;
}

function bodies(content) {
  const shown = make('ul', 'parts');
  for (const [type, media] of entries(content)) {
    shown.append(make('li', '', make('code', '', type), ' ', ...value('', found(media).schema, false)));
  }
  return shown;
}

function operation(path, method, says) {
  const inside = make('div', 'inside');
  if (says.description) inside.append(make('p', 'words', text(says.description)));
  const facts = [
    says.operationId && `operationId ${says.operationId}`, says['x-watt-service'] && `service ${says['x-watt-service']}`,
    says.deprecated && 'deprecated', says['x-sunset'] && `gone after ${says['x-sunset']}`,
    ...list(says.servers).map((server) => `at ${text(server.url)}`),
    list(says.security).length ? `needs ${says.security.map((one) => Object.keys(one).join(' and ') || 'nothing').join(', or ')}` : '',
  ].filter(Boolean);
  inside.append(make('p', 'quiet', facts.join(' · ')));
  const parameters = list(says.parameters).map(found);
  if (parameters.length) {
    inside.append(make('h3', '', 'Parameters'));
    const shown = make('ul', 'parts');
    for (const one of parameters) {
      const schema = one.schema ?? entries(one.content).map(([, media]) => media.schema)[0];
      shown.append(make('li', '', make('span', 'quiet', `${text(one.in)} `), ...value(text(one.name), schema, one.required === true),
        make('span', 'quiet', one.description ? ` · ${text(one.description)}` : '')));
    }
    inside.append(shown);
  }
  if (says.requestBody) {
    const body = found(says.requestBody);
    inside.append(make('h3', '', body.required ? 'Body (required)' : 'Body'), make('p', 'words', text(body.description)), bodies(body.content));
  }
  for (const [status, response] of entries(says.responses)) {
    const at = found(response);
    inside.append(make('h3', '', `${status} `, make('span', 'says', text(at.description))), bodies(at.content));
  }
  return inside;
}

function show() {
  const info = whole.info ?? {};
  document.title = text(info.title);
  document.querySelector('h1').textContent = `${text(info.title)} ${text(info.version)}`;
  document.querySelector('#about').textContent = text(info.description);
  const words = new Map(list(whole.tags).map((tag) => [tag.name, text(tag.description)]));
  const groups = new Map();
  for (const [path, item] of entries(whole.paths)) {
    for (const method of METHODS.filter((method) => item[method])) {
      const says = item[method];
      const tag = text(list(says.tags)[0] ?? 'others');
      const summary = [
        make('span', `method ${method}`, method.toUpperCase()), make('span', 'path', path), make('span', 'says', text(says.summary ?? item.summary)),
      ];
      const shown = later(summary, () => operation(path, method, says));
      shown.classList.add('operation');
      if (says.deprecated) shown.classList.add('deprecated');
      shown.dataset.find = [method, path, says.summary, says.operationId, tag].map(text).join(' ').toLowerCase();
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(shown);
    }
  }
  const main = document.querySelector('main');
  main.replaceChildren();
  for (const [tag, operations] of groups) {
    main.append(make('section', '', make('h2', '', tag), words.get(tag) && make('p', 'words', words.get(tag)), ...operations));
  }
  if (!groups.size) main.append(make('p', '', 'No service has told what it takes.'));
  main.removeAttribute('aria-busy');
}

document.querySelector('#find').addEventListener('input', ({ target }) => {
  const wanted = target.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of document.querySelectorAll('section')) {
    const all = [...section.querySelectorAll('details.operation')];
    all.forEach((one) => { one.hidden = !wanted.every((word) => one.dataset.find.includes(word)); });
    section.hidden = all.every((one) => one.hidden);
  }
});

fetch('openapi.json', { credentials: 'same-origin' })
  .then((answer) => { if (!answer.ok) throw new Error(`openapi.json: status ${answer.status}`); return answer.json(); })
  .then((read) => { whole = read; show(); })
  .catch((error) => { document.querySelector('main').replaceChildren(make('p', '', `It cannot be shown: ${error.message}`)); });
