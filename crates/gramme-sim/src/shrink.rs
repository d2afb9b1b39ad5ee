//! Makes a failing plan small: drops faults, clients, steps and kinds of chance for as long as the same rule is
//! still broken. A plan is data, so every part of one is a plan.

use crate::log::Trace;
use crate::run::Plan;

/// What shrinking came to.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smallest plan found.
    pub plan: Plan,
    /// The rule it breaks.
    pub rule: String,
    /// How.
    pub text: String,
    /// Runs it took.
    pub runs: u64,
}

/// The smallest part of a plan found within `budget` runs that breaks the same rule; `None` if the plan breaks
/// none.
pub fn shrink(plan: &Plan, budget: u64, progress: impl Fn(&Plan, u64)) -> Option<Shrunk> {
    let (rule, text) = broken(plan)?;
    let mut it = Shrinking { best: plan.clone(), rule, text, runs: 1, budget };
    loop {
        let before = size(&it.best);
        it.calm_weather();
        it.drop_faults();
        progress(&it.best, it.runs);
        it.drop_clients();
        it.drop_steps();
        progress(&it.best, it.runs);
        if size(&it.best) == before || it.runs >= it.budget {
            break;
        }
    }
    Some(Shrunk { plan: it.best, rule: it.rule, text: it.text, runs: it.runs })
}

/// The first rule that a plan breaks, and how.
pub fn broken(plan: &Plan) -> Option<(String, String)> {
    let verdict = crate::batch::one(plan, Trace::Off);
    verdict.violations.into_iter().next().map(|violation| (violation.rule.to_string(), violation.text))
}

struct Shrinking {
    best: Plan,
    rule: String,
    text: String,
    runs: u64,
    budget: u64,
}

impl Shrinking {
    /// Takes a smaller plan if it breaks the same rule under one of a few orders of polls.
    fn attempt(&mut self, mut plan: Plan) -> bool {
        for schedule in [self.best.schedule, self.best.schedule.wrapping_add(1)] {
            if self.runs >= self.budget {
                return false;
            }
            self.runs += 1;
            plan.schedule = schedule;
            if let Some((rule, text)) = broken(&plan)
                && rule == self.rule
            {
                (self.best, self.text) = (plan, text);
                return true;
            }
        }
        false
    }

    fn drop_faults(&mut self) {
        let mut chunk = self.best.faults.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            while at < self.best.faults.len() {
                let mut plan = self.best.clone();
                plan.faults.drain(at..(at + chunk).min(plan.faults.len()));
                if !self.attempt(plan) {
                    at += chunk;
                }
            }
            if chunk == 1 {
                return;
            }
            chunk /= 2;
        }
    }

    fn drop_clients(&mut self) {
        for at in 0..self.best.clients.len() {
            if !self.best.clients[at].is_empty() {
                let mut plan = self.best.clone();
                plan.clients[at].clear();
                self.attempt(plan);
            }
        }
    }

    fn drop_steps(&mut self) {
        for client in 0..self.best.clients.len() {
            let mut chunk = self.best.clients[client].len().div_ceil(2);
            while chunk > 0 {
                let mut at = 0;
                while at < self.best.clients[client].len() {
                    let mut plan = self.best.clone();
                    let end = (at + chunk).min(plan.clients[client].len());
                    plan.clients[client].drain(at..end);
                    if !self.attempt(plan) {
                        at += chunk;
                    }
                }
                chunk /= 2;
            }
        }
    }

    /// Ordinary chance goes where it is not needed: stragglers, read waits, clocks that are off.
    fn calm_weather(&mut self) {
        let calmer: [fn(&mut Plan); 4] = [
            |plan| plan.knobs.net.straggler_permille = 0,
            |plan| plan.knobs.disk.read_waits_permille = 0,
            |plan| plan.knobs.wall_offset_ms.fill(0),
            |plan| plan.knobs.drift_ppm.fill(0),
        ];
        for calm in calmer {
            let mut plan = self.best.clone();
            calm(&mut plan);
            if plan != self.best {
                self.attempt(plan);
            }
        }
    }
}

fn size(plan: &Plan) -> usize {
    plan.faults.len() + plan.clients.iter().map(Vec::len).sum::<usize>()
}
