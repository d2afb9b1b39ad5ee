// Asks the node every two seconds while somebody looks, and shows what it says.

import * as session from './session.js';
import * as latency from './latency.js';
import * as ring from './ring.js';
import { showChange, showHistory, showPlan } from './changing.js';
import { showFigures, showIdentity, showNodes, showProblems, showVerdict } from './panels.js';
import { byId, write } from './write.js';

const EVERY_MS = 2000;
const history = new latency.History();
const drawLatency = latency.mount(byId('latency'));
let layout = '';
let answeredAt = null;
let timer = null;
let asking = false;

async function show() {
  const overview = await session.ask('v1/cluster/overview');
  if (overview.asked.layout.hash !== layout) {
    ring.draw(byId('ring'), await session.ask('v1/cluster/ring'), (text) => write(byId('ring-words'), text));
    layout = overview.asked.layout.hash;
  }
  const now = performance.now();
  history.add(overview, now);
  showVerdict(overview);
  showIdentity(overview.asked);
  showProblems(overview);
  showFigures(overview);
  showNodes(overview);
  showChange(overview);
  showPlan(overview);
  showHistory(overview);
  ring.mark(byId('ring'), overview.nodes);
  drawLatency(history, now);
  answeredAt = new Date();
}

function wantToken(wants) {
  byId('token-form').hidden = !wants;
  byId('content').hidden = wants;
  if (!wants) return;
  if (session.hasToken()) {
    session.forgetToken();
    write(byId('token-remark'), 'That is not the token of this cluster.');
  }
  byId('token').focus();
}

function silent(why) {
  const since = answeredAt === null ? '' : ` What is below is of ${answeredAt.toLocaleTimeString()}.`;
  const banner = byId('banner');
  write(banner, why === null ? '' : `The node that served this page gives no answer: ${why}.${since} It is asked again every two seconds; another node's /ui shows the cluster as well.`);
  banner.hidden = why === null;
  byId('content').classList.toggle('stale', why !== null);
}

async function look() {
  if (asking || document.hidden) return;
  asking = true;
  clearTimeout(timer);
  let again = true;
  try {
    await show();
    wantToken(false);
    silent(null);
    write(byId('freshness'), `as of ${answeredAt.toLocaleTimeString()}`);
  } catch (error) {
    if (error instanceof session.TokenWanted) {
      silent(null);
      wantToken(true);
      again = false;
    } else if (error instanceof session.NoAnswer) {
      silent(error.message);
      write(byId('freshness'), 'no answer');
    } else {
      silent('its answer is not what this page expects');
      console.error(error);
    }
  }
  asking = false;
  if (again) timer = setTimeout(look, EVERY_MS);
}

byId('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  session.setToken(byId('token').value);
  byId('token').value = '';
  look();
});
document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    clearTimeout(timer);
    write(byId('freshness'), 'paused');
  } else {
    look();
  }
});
look();
