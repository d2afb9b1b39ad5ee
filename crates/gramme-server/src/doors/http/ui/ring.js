// The ring: zones and shares inside, all partitions with their homes outside.

import { hue, percent } from './model.js';

const NS = 'http://www.w3.org/2000/svg';

const point = (radius, turn) => {
  const angle = (turn - 0.25) * 2 * Math.PI;
  return `${(radius * Math.cos(angle)).toFixed(3)} ${(radius * Math.sin(angle)).toFixed(3)}`;
};

/** The outline of a piece of a ring, between two radii and two turns from 0 to 1. */
export function piece(inner, outer, from, to) {
  // A whole circle has no beginning that an arc could come back to.
  const end = Math.min(to, from + 0.99999);
  const large = end - from > 0.5 ? 1 : 0;
  return `M${point(outer, from)}A${outer} ${outer} 0 ${large} 1 ${point(outer, end)}`
    + `L${point(inner, end)}A${inner} ${inner} 0 ${large} 0 ${point(inner, from)}Z`;
}

/** Members in the order of the inner rings, by zone, each with the turns that its share takes. */
export function shares(ring) {
  const slots = ring.n * ring.partitions;
  let from = 0;
  return ring.members
    .map((member, index) => ({ ...member, index }))
    .sort((a, b) => (a.zone < b.zone ? -1 : a.zone > b.zone ? 1 : a.index - b.index))
    .map((member) => {
      const to = from + member.slots / slots;
      const placed = { ...member, share: member.slots / slots, from, to };
      from = to;
      return placed;
    });
}

/** Zones with the turns of their members together. */
export function zones(members) {
  const all = [];
  for (const member of members) {
    const last = all[all.length - 1];
    if (last && last.name === member.zone) last.to = member.to;
    else all.push({ name: member.zone, from: member.from, to: member.to });
  }
  return all;
}

/** For each member the runs of partitions of which it is the home at a place in their order. */
export function runs(homes, place) {
  const all = [];
  homes.forEach((home, partition) => {
    const last = all[all.length - 1];
    if (last && last.member === home[place]) last.to = partition + 1;
    else all.push({ member: home[place], from: partition, to: partition + 1 });
  });
  return all;
}

/** What is said of a member. */
export function words(member) {
  const fair = `${Math.round(member.fair * 10) / 10} would be fair`;
  return `${member.name}: ${percent(member.share)}, home of ${member.slots} partitions (${fair} by weight ${member.weight}), zone ${member.zone || 'none'}`;
}

function element(name, attributes, text) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const colour = (index, many) => `hsl(${hue(index, many)} 62% 52%)`;

/** Draws the ring; `say` is told what to write about the member that is looked at. */
export function draw(svg, ring, say) {
  const members = shares(ring);
  const many = members.length;
  const idle = `Layout version ${ring.version}: ${ring.partitions} partitions, ${ring.n} homes each. Point at a node, or tab to it.`;
  svg.replaceChildren();
  for (const zone of zones(members)) {
    svg.append(element('path', { d: piece(35, 40, zone.from, zone.to), class: 'zone' }));
  }
  const width = 30 / ring.n;
  const slices = element('g', { class: 'slices', 'aria-hidden': 'true' });
  for (let place = 0; place < ring.n; place += 1) {
    const outlines = new Map();
    for (const run of runs(ring.homes, place)) {
      const inner = 72 + place * width;
      const outline = piece(inner, inner + width - 0.8, run.from / ring.partitions, run.to / ring.partitions);
      outlines.set(run.member, (outlines.get(run.member) || '') + outline);
    }
    for (const [member, d] of outlines) {
      slices.append(element('path', { d, fill: colour(member, many), 'data-member': member }));
    }
  }
  svg.append(slices);
  const look = (index, text) => {
    for (const slice of slices.children) slice.classList.toggle('dim', index !== null && slice.dataset.member !== `${index}`);
    say(text);
  };
  for (const member of members) {
    const group = element('g', { tabindex: 0, role: 'img', 'aria-label': words(member), class: 'member', 'data-name': member.name });
    group.append(element('path', { d: piece(42, 68, member.from, member.to), fill: colour(member.index, many) }));
    if (member.share > 0.03) {
      const [x, y] = point(55, (member.from + member.to) / 2).split(' ');
      const name = member.name.length > 7 ? `${member.name.slice(0, 6)}…` : member.name;
      group.append(element('text', { x, y, dy: '0.35em', 'text-anchor': 'middle' }, name));
    }
    for (const event of ['mouseenter', 'focus']) group.addEventListener(event, () => look(member.index, words(member)));
    for (const event of ['mouseleave', 'blur']) group.addEventListener(event, () => look(null, idle));
    svg.append(group);
  }
  for (const zone of zones(members)) {
    if (zone.to - zone.from < 0.05) continue;
    const [x, y] = point(22, (zone.from + zone.to) / 2).split(' ');
    svg.append(element('text', { x, y, dy: '0.35em', 'text-anchor': 'middle', class: 'zone-name' }, (zone.name || 'none').slice(0, 8)));
  }
  look(null, idle);
}

/** Marks the members that do not serve as they should. */
export function mark(svg, nodes) {
  const colours = new Map(nodes.map((node) => [node.name, node.colour]));
  for (const group of svg.querySelectorAll('.member')) group.dataset.state = colours.get(group.dataset.name) || '';
}
