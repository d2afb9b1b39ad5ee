// Writes the panels of a change of the ring into the document: what goes on, what is planned, what was.

import * as change from './change.js';
import * as plan from './plan.js';
import { byId, fit, made, write } from './write.js';

/** How the ring changes, if it does. */
export function showChange(overview) {
  const told = overview.change;
  const title = told.layout ? change.title(told) : '';
  byId('change-panel').hidden = title === '';
  if (title === '') return;
  write(byId('change-title'), title);
  showSteps(told);
  showTransfers(told);
  const list = change.remarks(told.layout);
  const remarks = byId('remarks');
  fit(remarks, list.length, () => made('li', made('span'), made('code')));
  list.forEach(([words, command], i) => {
    const [sentence, code] = remarks.children[i].children;
    write(sentence, words);
    write(code, command);
    code.hidden = command === '';
  });
}

function showSteps(told) {
  const isUnderWay = told.layout.changing || told.transfers.some((node) => node.handing_over > 0);
  byId('change-way').hidden = !isUnderWay;
  if (!isUnderWay) return;
  const steps = change.steps(told.layout);
  const list = byId('steps');
  fit(list, steps.length, () => made('li', made('b'), made('span'), made('span')));
  steps.forEach(({ name, words, state, there }, i) => {
    const [title, nodes, sentence] = list.children[i].children;
    list.children[i].dataset.step = state;
    if (state === 'now') list.children[i].setAttribute('aria-current', 'step');
    else list.children[i].removeAttribute('aria-current');
    write(title, name);
    write(nodes, there);
    write(sentence, words);
  });
  const { there, all } = change.partitions(told);
  byId('whole').hidden = all === 0;
  byId('whole').max = Math.max(all, 1);
  byId('whole').value = there;
  write(byId('whole-words'), all === 0 ? '' : `${there} of ${all} partitions are there.`);
  write(byId('course'), change.course(told.layout));
}

const COLUMNS = ['came', 'rate', 'left', 'from', 'to'];

function emptyTransfer() {
  const name = made('th');
  name.scope = 'row';
  const there = made('td', made('progress'), made('span'));
  there.className = 'progress';
  const state = made('span');
  state.className = 'badge';
  const cells = COLUMNS.map((column, at) => {
    const cell = made('td');
    if (at < 3) cell.className = 'number';
    return cell;
  });
  return made('tr', name, made('td', state), there, ...cells);
}

function showTransfers(told) {
  const rows = change.transfers(told);
  byId('transfers').hidden = rows.length === 0;
  const body = byId('transfer-rows');
  fit(body, rows.length, emptyTransfer);
  rows.forEach((row, i) => {
    const [name, state, there, ...cells] = body.children[i].children;
    const [bar, words] = there.children;
    write(name, row.name);
    write(state.firstElementChild, row.state);
    state.firstElementChild.dataset.colour = row.colour;
    state.firstElementChild.title = row.why;
    bar.hidden = row.all === 0;
    bar.max = Math.max(row.all, 1);
    bar.value = row.there;
    bar.setAttribute('aria-label', `partitions of ${row.name} that are there`);
    write(words, row.partitions);
    COLUMNS.forEach((column, at) => write(cells[at], row[column]));
  });
}

/** What is staged, and what committing it would do. */
export function showPlan(overview) {
  const { layout, plan: told } = overview.change;
  const isStaged = Boolean(layout) && layout.staged.length > 0;
  byId('plan-panel').hidden = !isStaged;
  if (!isStaged) return;
  const wanted = plan.staged(layout);
  const list = byId('staged');
  fit(list, wanted.length, () => made('li'));
  wanted.forEach((words, i) => write(list.children[i], words));
  const isPlanned = told !== null && !told.error;
  byId('plan').hidden = !isPlanned;
  write(byId('no-plan'), isPlanned ? '' : `There is no plan: ${told ? told.error : 'the node has not made one'}`);
  if (!isPlanned) return;
  showShares(told);
  showMoves(told);
  const facts = plan.facts(told);
  const figures = byId('plan-facts');
  fit(figures, facts.length, () => made('div', made('dt'), made('dd')));
  facts.forEach(([name, value], i) => {
    const [term, words] = figures.children[i].children;
    write(term, name);
    write(words, value);
  });
  const warnings = byId('warnings');
  fit(warnings, told.warnings.length, () => made('li'));
  told.warnings.forEach((words, i) => write(warnings.children[i], words));
  write(byId('commit'), plan.commit(told));
}

function emptyShare() {
  const name = made('th');
  name.scope = 'row';
  const bars = made('td', made('i'), made('i'));
  bars.className = 'bars';
  const cells = ['', '', 'number', 'number'].map((kind) => {
    const cell = made('td');
    cell.className = kind;
    return cell;
  });
  return made('tr', name, cells[0], cells[1], bars, cells[2], cells[3]);
}

function showShares(told) {
  const rows = plan.shares(told);
  const body = byId('shares');
  fit(body, rows.length, emptyShare);
  rows.forEach((row, i) => {
    const [name, zone, weight, bars, before, after] = body.children[i].children;
    write(name, row.name);
    write(zone, row.zone);
    write(weight, row.weight);
    bars.children[0].style.width = `${(row.before * 100).toFixed(1)}%`;
    bars.children[1].style.width = `${(row.after * 100).toFixed(1)}%`;
    write(before, row.wordsBefore);
    write(after, row.wordsAfter);
  });
}

function showMoves(told) {
  const { shown, more } = plan.moves(told);
  const body = byId('moves');
  fit(body, shown.length, () => {
    const replicas = made('td');
    replicas.className = 'number';
    return made('tr', made('td'), made('td'), replicas);
  });
  shown.forEach(({ from, to, replicas }, i) => {
    const cells = body.children[i].children;
    write(cells[0], from);
    write(cells[1], `→ ${to}`);
    write(cells[2], replicas);
  });
  write(byId('more-moves'), more);
}

const HISTORY = ['layout', 'state', 'members', 'came', 'went', 'moved', 'back', 'hash'];
const NUMBERS = new Set(['members', 'moved']);

/** The layouts that there were. */
export function showHistory(overview) {
  const rows = overview.change.layout ? change.history(overview.change) : [];
  byId('history-panel').hidden = rows.length === 0;
  const body = byId('history');
  fit(body, rows.length, () => {
    const cells = HISTORY.map((column, at) => {
      const cell = made(at === 0 ? 'th' : 'td');
      if (at === 0) cell.scope = 'row';
      if (NUMBERS.has(column)) cell.className = 'number';
      return cell;
    });
    return made('tr', ...cells);
  });
  rows.forEach((row, i) => HISTORY.forEach((column, at) => write(body.children[i].children[at], row[column])));
}
