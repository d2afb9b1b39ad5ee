// What is staged and what it would come to, as plain values: nothing here touches the document.

import { bytes, count, span } from './model.js';

const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;

const byName = (a, b) => a.name.localeCompare(b.name, 'en', { numeric: true });

/** What somebody wants, in sentences. */
export const staged = (layout) => [...layout.staged].sort(byName).map((item) => `${item.name} ${item.what} (staged at ${item.by})`);

/** Shares before and after; `before` and `after` are parts of the greatest share. */
export function shares(plan) {
  const most = Math.max(1, ...plan.shares.flatMap((share) => [share.slots_before, share.slots_after]));
  return [...plan.shares].sort(byName).map((share) => ({
    name: share.name,
    zone: share.zone === null ? 'goes' : share.zone || 'none',
    weight: share.weight === null ? '–' : count(share.weight),
    before: share.slots_before / most,
    after: share.slots_after / most,
    wordsBefore: `${share.percent_before.toFixed(1)} % (${count(share.slots_before)})`,
    wordsAfter: `${share.percent_after.toFixed(1)} % (${count(share.slots_after)})`,
  }));
}

/** Pairs of a name and a value. */
export function facts(plan) {
  const { estimate, zones } = plan;
  const slots = plan.n * plan.partitions;
  const steps = plan.versions.length;
  return [
    ['Replicas that move', `${count(plan.replicas)} of ${count(slots)}`],
    ['Bytes to fetch', estimate.bytes === null ? 'not known here' : `about ${bytes(estimate.bytes)}`],
    ['Time', estimate.seconds === null ? 'not known here' : `about ${span(Math.max(estimate.seconds, 1) * 1000)}, at ${bytes(estimate.bytes_per_s)}/s`],
    ['Layouts', `${steps}, after layout ${plan.after.version}`],
    ['Live homes on the way', `${count(plan.live_homes_kept)} of ${count(plan.n)} or more`],
    ['Zones of each partition', `${zones.after} of ${zones.of} or more (${zones.before} before)`],
  ];
}

/** Who gives how many replicas to whom, the most first. */
export function moves(plan) {
  const all = [...plan.moves].sort((a, b) => b.replicas - a.replicas);
  const shown = all.slice(0, MOVES_MAX).map((move) => ({ from: move.from.name, to: move.to.name, replicas: count(move.replicas) }));
  return { shown, more: all.length > MOVES_MAX ? `… and ${plural(all.length - MOVES_MAX, 'pair', 'pairs')} more: gramme cluster plan` : '' };
}

export const commit = (plan) => `gramme cluster commit ${plan.hash.slice(0, 8)}`;

const MOVES_MAX = 16;
