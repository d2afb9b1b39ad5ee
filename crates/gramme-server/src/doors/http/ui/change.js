// How the ring changes, as plain values: nothing here touches the document, a clock or the network.

import { bytes, count, span } from './model.js';

const by = (decree) => [decree.lineage, decree.version];
const reaches = (decree, target) => {
  const [a, b] = [by(decree), by(target)];
  return a[0] > b[0] || (a[0] === b[0] && a[1] >= b[1]);
};
const inOrder = (list) => [...list].sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).join(', ');
const names = (nodes) => inOrder(nodes.map((node) => node.name));
const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;

/** A layout's number; the lineage is told where there is more than one. */
export const numbered = (decree) => (decree.lineage > 0 ? `${decree.version} of lineage ${decree.lineage}` : `${decree.version}`);

/** The layout that is being gone to; one that has only been heard of counts. */
const target = (layout) => (reaches(layout.reads, layout.target) ? layout.head : layout.target);

const STEPS = [
  ['adopted', 'Written by', 'every node writes by the new layout too'],
  ['filled', 'Filled', 'new homes fetch what the old ones have'],
  ['reads', 'Read by', 'reads go by the new layout'],
  ['emptied', 'Handed over', 'former homes give up what they kept'],
];

/** The steps of a change, with how many nodes have taken each. */
export function steps(layout) {
  const to = target(layout);
  const all = layout.progress.length;
  let isNext = true;
  return STEPS.map(([key, name, words]) => {
    const there = layout.progress.filter((node) => reaches(node[key], to)).length;
    const state = there === all && isNext ? 'done' : isNext ? 'now' : 'later';
    isNext = state === 'done';
    return { name, words, state, there: `${there} of ${plural(all, 'node', 'nodes')}` };
  });
}

/** What is awaited, in sentences. */
export function course(layout) {
  const parts = [];
  if (layout.awaited.length > 0) parts.push(`Waiting for ${names(layout.awaited)}.`);
  if (layout.waiting > 0) parts.push(`${plural(layout.waiting, 'more layout waits', 'more layouts wait')} in line.`);
  return parts.join(' ');
}

/** Partitions that are where they must come, and all that must. */
export function partitions(change) {
  const told = change.transfers.filter((node) => !node.error);
  const there = told.reduce((sum, node) => sum + node.arrived, 0);
  return { there, all: there + told.reduce((sum, node) => sum + node.coming, 0) };
}

const counted = (nodes) => inOrder(nodes.map((node) => `${node.name} (${count(node.partitions)})`)) || '–';

function handsOver(node) {
  if (!(node.handing_over > 0)) return '–';
  // Once all have everything, the rows are being wiped.
  return node.to.length > 0 ? `${count(node.handing_over)}, to ${counted(node.to)}` : count(node.handing_over);
}

function left(node) {
  if (!(node.arrived > 0 && node.coming > 0 && node.bytes_per_s > 0)) return '–';
  return `about ${span((node.bytes / node.arrived) * node.coming / node.bytes_per_s * 1000)}`;
}

function state(node) {
  if (node.error) return 'no answer';
  if (node.paused) return 'paused';
  if (node.coming > 0) return 'filling';
  return node.handing_over > 0 ? 'handing over' : 'done';
}

/** A row for each node that has something to move, or does not tell. */
export function transfers(change) {
  const isBusy = (node) => node.error || node.paused || node.arrived + node.coming + node.handing_over > 0;
  const busy = change.transfers.filter(isBusy).sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
  return busy.map((node) => {
    const all = (node.arrived || 0) + (node.coming || 0);
    return {
      name: node.name,
      there: node.arrived || 0,
      all,
      partitions: all > 0 ? `${count(node.arrived)} of ${count(all)}` : '–',
      came: node.error ? '–' : bytes(node.bytes),
      rate: node.bytes_per_s > 0 ? `${bytes(node.bytes_per_s)}/s` : '–',
      left: left(node),
      from: counted(node.from || []),
      to: handsOver(node),
      state: state(node),
      why: node.error || '',
      colour: node.error ? 'red' : node.paused ? 'yellow' : 'green',
    };
  });
}

/** What an operator may want to do: pairs of a sentence and a command, which may be empty. */
export function remarks(layout) {
  const staged = new Set(layout.staged.map((item) => item.node));
  const asking = layout.asking.filter((node) => !staged.has(node.node));
  return [
    ...asking.map((node) => [`${node.name} at ${node.http}, zone ${node.zone || 'none'}, asks to join.`, `gramme cluster join ${node.name}`]),
    ...layout.leaving.map((node) => [`${node.name} was removed, and still hands over what it has.`, '']),
    ...(layout.is_gone ? [[`${layout.name} was removed and has handed over all it had: it may be stopped.`, '']] : []),
  ];
}

/** What the panel says above all; empty if there is nothing to say. */
export function title(change) {
  const { layout } = change;
  if (layout.changing) return `The ring is changing: layout ${numbered(layout.reads)} → ${numbered(target(layout))}`;
  if (change.transfers.some((node) => node.handing_over > 0)) return `Former homes hand over what they kept before layout ${numbered(layout.reads)}`;
  return remarks(layout).length > 0 ? 'Nodes that come and go' : '';
}

/** The layouts, newest first. */
export function history(change) {
  const { layout } = change;
  const is = (item, decree) => item.version === decree.version && item.lineage === decree.lineage;
  const word = (item) => {
    if (is(item, layout.reads)) return 'read by';
    if (!reaches(item, layout.reads)) return '';
    return is(item, layout.target) ? 'being gone to' : 'waits in line';
  };
  return [...change.history].reverse().map((item) => ({
    layout: numbered(item),
    hash: item.hash.slice(0, 8),
    state: word(item),
    members: count(item.members),
    came: inOrder(item.came) || '–',
    went: inOrder(item.went) || '–',
    moved: count(item.moved),
    back: item.back_to === null ? '–' : `layout ${item.back_to}`,
  }));
}
