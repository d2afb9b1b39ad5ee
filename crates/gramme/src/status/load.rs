//! `gramme status --load`: where clients' requests go. Every node tells what its own clients asked for of each
//! partition; a request is counted at one node only, so that what they tell adds up.

use super::word;
use crate::failure::Failure;
use crate::output::{lines, table};
use gramme_client::Error;
use gramme_server::figures::grouped;
use gramme_server::load::imbalance;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// Requests to a partition, per second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rate {
    pub(crate) reads: f64,
    pub(crate) writes: f64,
    pub(crate) homes: Vec<String>,
}

impl Rate {
    /// Both.
    pub(crate) fn all(&self) -> f64 {
        self.reads + self.writes
    }
}

/// What each node carries.
pub(crate) struct Share {
    pub(crate) name: String,
    owns: f64,
    /// Of all requests, those to partitions of which it is the first home.
    primary: f64,
    /// Of the load of all homes, its own.
    pub(crate) carries: f64,
}

/// What the cluster's clients asked for lately.
pub(crate) struct Load {
    rates: BTreeMap<u64, Rate>,
    /// Addresses of nodes that told nothing, and why.
    silent: Vec<(String, String)>,
}

impl Load {
    /// Adds up what the nodes tell.
    pub(crate) fn of(answers: Vec<(String, Result<Json, Error>)>) -> Result<Load, Failure> {
        let mut load = Load { rates: BTreeMap::new(), silent: Vec::new() };
        let asked = answers.len();
        for (address, answer) in answers {
            match answer {
                Ok(told) => load.add(&told),
                Err(why) => load.silent.push((address, why.to_string())),
            }
        }
        match load.silent.first() {
            Some((address, why)) if load.silent.len() == asked => {
                Err(Failure::failed(format!("{address}: {why}")))
            }
            _ => Ok(load),
        }
    }

    fn add(&mut self, told: &Json) {
        // A node that has just started divides by a moment: a second is the least that says anything.
        let seconds = (told["window_ms"].as_f64().unwrap_or(0.0) / 1000.0).max(1.0);
        for partition in told["partitions"].as_array().into_iter().flatten() {
            let Some(number) = partition["partition"].as_u64() else { continue };
            let rate = self.rates.entry(number).or_default();
            rate.reads += partition["reads"].as_f64().unwrap_or(0.0) / seconds;
            rate.writes += partition["writes"].as_f64().unwrap_or(0.0) / seconds;
            rate.homes = partition["homes"].as_array().into_iter().flatten().map(word).collect();
        }
    }

    /// Requests to all partitions, per second.
    pub(crate) fn total(&self) -> f64 {
        sum(self.rates.values().map(Rate::all))
    }

    /// What each of the members of an overview carries, in their order.
    pub(crate) fn shares(&self, members: &[Json]) -> Vec<Share> {
        let carried: f64 = self.rates.values().map(|rate| rate.all() * rate.homes.len() as f64).sum();
        let part = |of: f64, all: f64| if all > 0.0 { of / all } else { 0.0 };
        let share = |member: &Json| {
            let name = word(&member["name"]);
            let with = |held: &dyn Fn(&Rate) -> bool| {
                sum(self.rates.values().filter(|rate| held(rate)).map(Rate::all))
            };
            Share {
                owns: member["share"].as_f64().unwrap_or(0.0),
                primary: part(with(&|rate| rate.homes.first() == Some(&name)), self.total()),
                carries: part(with(&|rate| rate.homes.contains(&name)), carried),
                name,
            }
        };
        members.iter().map(share).collect()
    }

    /// The hottest partitions, the hottest first.
    pub(crate) fn hottest(&self) -> Vec<(u64, &Rate)> {
        let mut rates: Vec<(u64, &Rate)> =
            self.rates.iter().map(|(partition, rate)| (*partition, rate)).collect();
        rates.sort_by(|a, b| b.1.all().total_cmp(&a.1.all()));
        rates.truncate(HOTTEST);
        rates
    }

    /// Of the members, the part whose load is not within 15 % of its fair part.
    pub(crate) fn imbalance(&self, shares: &[Share], members: &[Json]) -> f64 {
        let weight = |member: &Json| member["described"]["weight"].as_f64().unwrap_or(1.0);
        let loads: Vec<(f64, f64)> =
            shares.iter().zip(members).map(|(share, member)| (share.carries, weight(member))).collect();
        imbalance(&loads)
    }

    pub(super) fn json(&self, members: &[Json]) -> Json {
        let shares = self.shares(members);
        let nodes = shares.iter().map(
            |share| json!({ "name": share.name, "owns": share.owns, "primary": share.primary, "carries": share.carries }),
        );
        let partitions = self.hottest().into_iter().map(|(partition, rate)| {
            json!({ "partition": partition, "reads_per_s": rate.reads, "writes_per_s": rate.writes, "homes": rate.homes })
        });
        let silent = self.silent.iter().map(|(node, why)| json!({ "node": node, "why": why }));
        json!({
            "requests_per_s": self.total(),
            "imbalance": self.imbalance(&shares, members),
            "nodes": nodes.collect::<Vec<_>>(),
            "hottest": partitions.collect::<Vec<_>>(),
            "silent": silent.collect::<Vec<_>>(),
        })
    }

    pub(super) fn screen(&self, members: &[Json]) -> String {
        let shares = self.shares(members);
        let percent = |part: f64| format!("{:.1}%", part * 100.0);
        let mut nodes = table(["NODE", "OWNS", "PRIMARY", "CARRIES"]);
        for share in &shares {
            nodes.add_row([
                share.name.clone(),
                percent(share.owns),
                percent(share.primary),
                percent(share.carries),
            ]);
        }
        let out = (self.imbalance(&shares, members) * members.len() as f64).round() as usize;
        let mut text = format!(
            "{} requests/s to {} partitions; {out} of {} nodes carry over 15 % more or less than their fair part\n{}",
            grouped(self.total().round() as u64),
            self.rates.len(),
            members.len(),
            lines(&nodes)
        );
        let mut hottest = table(["PARTITION", "REQUESTS/S", "OF ALL", "READS/S", "WRITES/S", "HOMES"]);
        for (partition, rate) in self.hottest() {
            let figure = |per_s: f64| format!("{per_s:.1}");
            hottest.add_row([
                partition.to_string(),
                figure(rate.all()),
                percent(rate.all() / self.total()),
                figure(rate.reads),
                figure(rate.writes),
                rate.homes.join(", "),
            ]);
        }
        if !self.rates.is_empty() {
            text.push_str("\n\n");
            text.push_str(&lines(&hottest));
        }
        for (node, why) in &self.silent {
            text.push_str(&format!("\nwarning  {node}: {why}"));
        }
        text.push_str(
            "\nof the last minute or two; PRIMARY: to partitions of which it is the first home; CARRIES: of all homes' load",
        );
        text
    }
}

/// Zero for nothing, where the sum of std is the zero that is shown with a minus.
fn sum(figures: impl Iterator<Item = f64>) -> f64 {
    figures.fold(0.0, |sum, figure| sum + figure)
}

/// Partitions that are listed.
const HOTTEST: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_tell_is_added_up_to_each_nodes_share_and_the_hottest_partitions() {
        let members: Vec<Json> = (0..4)
            .map(|at| json!({ "name": format!("n{at}"), "share": 0.25, "described": { "weight": 1 } }))
            .collect();
        let told = |window_ms: u64, partitions: Json| {
            Ok(json!({ "window_ms": window_ms, "partitions": partitions }))
        };
        let of = |partition: u64, reads: u64, writes: u64, homes: [&str; 2]| json!({ "partition": partition, "reads": reads, "writes": writes, "homes": homes });
        let answers = vec![
            ("http://h:0".to_string(), told(10_000, json!([of(3, 600, 100, ["n0", "n1"])]))),
            (
                "http://h:1".to_string(),
                told(20_000, json!([of(3, 200, 0, ["n0", "n1"]), of(5, 0, 400, ["n2", "n3"])])),
            ),
        ];
        let load = Load::of(answers).unwrap_or_else(|failure| panic!("{}", failure.sentence()));
        let expected = "100 requests/s to 2 partitions; 4 of 4 nodes carry over 15 % more or less than their fair part\n\
            NODE  OWNS   PRIMARY  CARRIES\n\
            n0    25.0%  80.0%    40.0%\n\
            n1    25.0%  0.0%     40.0%\n\
            n2    25.0%  20.0%    10.0%\n\
            n3    25.0%  0.0%     10.0%\n\
            \n\
            PARTITION  REQUESTS/S  OF ALL  READS/S  WRITES/S  HOMES\n\
            3          80.0        80.0%   70.0     10.0      n0, n1\n\
            5          20.0        20.0%   0.0      20.0      n2, n3\n\
            of the last minute or two; PRIMARY: to partitions of which it is the first home; CARRIES: of all homes' load";
        assert_eq!(load.screen(&members), expected);
        assert_eq!(load.json(&members)["imbalance"], 1.0);
    }

    #[test]
    fn a_cluster_without_load_is_in_balance() {
        let load =
            Load::of(vec![("http://h:0".to_string(), Ok(json!({ "window_ms": 5, "partitions": [] })))]);
        let screen = load.unwrap_or_else(|failure| panic!("{}", failure.sentence())).screen(&[]);
        assert!(screen.starts_with("0 requests/s to 0 partitions; 0 of 0 nodes"), "{screen}");
    }
}
