// Writes plain values into the document: how the cluster is, node by node and as a whole.

import { figures, load, problems, row } from './model.js';
import { byId, fit, made, write } from './write.js';

export function showVerdict(overview) {
  const open = problems(overview).length;
  const level = overview.verdict.level;
  byId('verdict').dataset.level = level;
  write(byId('level'), level);
  const more = open === 0 ? '' : open === 1 ? '; one open problem' : `; ${open} open problems`;
  write(byId('sentence'), overview.verdict.sentence + more);
  document.title = level === 'healthy' ? 'Gramme' : `${level}: Gramme`;
}

export function showIdentity(asked) {
  const { layout } = asked;
  write(byId('identity'), `cluster ${asked.cluster.slice(0, 8)}, layout ${layout.version}, N=${layout.n}, ${layout.partitions} partitions, seen from ${asked.node.name} (v${asked.version})`);
}

export function showProblems(overview) {
  const open = problems(overview);
  const list = byId('problems');
  fit(list, Math.max(open.length, 1), () => made('li', made('b'), made('span'), made('em')));
  if (open.length === 0) open.push({ node: '', what: 'Nothing wants anybody to look.', remedy: '' });
  open.forEach(({ node, what, remedy }, i) => {
    const [name, words, todo] = list.children[i].children;
    list.children[i].className = node === '' ? 'none' : '';
    write(name, node);
    write(words, what);
    write(todo, remedy);
  });
}

export function showFigures(overview) {
  const all = figures(overview);
  const list = byId('figures');
  fit(list, all.length, () => made('div', made('dt'), made('dd')));
  all.forEach(([name, value], i) => {
    const [term, words] = list.children[i].children;
    write(term, name);
    write(words, value);
  });
}

const COLUMNS = ['address', 'zone', 'version', 'stored', 'load', 'sync', 'hints', 'oldestHint', 'verified', 'unseen', 'tombstones', 'waitsFor', 'uptime'];
const WORDS = new Set(['address', 'zone', 'version', 'waitsFor']);

function emptyRow() {
  const name = made('th');
  name.scope = 'row';
  const cells = COLUMNS.map((column) => {
    const cell = made('td');
    if (!WORDS.has(column)) cell.className = 'number';
    return cell;
  });
  const state = made('span');
  state.className = 'badge';
  return made('tr', name, made('td', state), ...cells);
}

export function showNodes(overview) {
  const body = byId('nodes');
  fit(body, overview.nodes.length, emptyRow);
  const { shares } = load(overview);
  overview.nodes.forEach((node, i) => {
    const values = row(node, shares.get(node.name));
    const [name, state, ...cells] = body.children[i].children;
    write(name, values.name + (values.isAsked ? '*' : ''));
    write(state.firstElementChild, values.state);
    state.firstElementChild.dataset.colour = values.colour;
    COLUMNS.forEach((column, at) => write(cells[at], values[column]));
    cells[COLUMNS.indexOf('load')].dataset.colour = values.isOut ? 'yellow' : '';
  });
}
