//! `gramme doctor`: what is wrong with a cluster, or will be, and what to do about it. Nodes are asked for what they
//! say of themselves and their machines; the disk of this machine is measured if its directory is named. Nothing is
//! changed anywhere, but for a file that is written to measure a disk and then removed.

mod checks;
mod clocks;
mod disk;
mod ring;

use crate::failure::Failure;
use crate::nodes::Nodes;
use crate::output::{lines, print_json, print_line, table};
use clap::Args;
use clocks::Reading;
use gramme_client::{Client, Kind};
use gramme_server::figures::counted;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme doctor\n  gramme doctor --data shop/n1/data      measure that disk too\n\nEnds with code 1 if something is bad. docs/cli.md says what each check looks at."
)]
pub(crate) struct Doctor {
    /// A data directory on this machine: how long syncs take there is measured, with at most 64 small writes to a file
    /// that is then removed
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nodes: Nodes,
}

/// How bad it is; the worst is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Ok,
    /// It serves, and wants somebody to look.
    Warn,
    /// It fails requests or may lose something, or will soon.
    Bad,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        ["ok", "warn", "bad"][self as usize]
    }
}

/// What one check says, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    says: String,
}

impl Doctor {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let here = self.data.as_deref().map(disk::examine).transpose()?.unwrap_or_default();
        self.nodes.clone().try_with_client(|client| async move {
            let (mut findings, readings) = match client {
                Ok(client) => self.examine(&client).await?,
                // Whoever named a directory wants to hear of it all the same.
                Err(error) if !here.is_empty() && error.kind() != Kind::Argument => {
                    (vec![gone(&error)], BTreeMap::new())
                }
                Err(error) => return Err(error.into()),
            };
            findings.extend(here);
            // The worst first; otherwise as the checks come.
            findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
            self.tell(&findings, &readings)
        })
    }

    async fn examine(&self, client: &Client) -> Result<(Vec<Finding>, BTreeMap<String, Reading>), Failure> {
        let overview = client.overview().await?;
        // A bucket's settings are worth a remark only: without them everything else is told.
        let buckets = client.buckets().await.unwrap_or(Json::Null);
        let mut readings = BTreeMap::new();
        for node in client.nodes() {
            readings.extend(clocks::read(client, &node).await);
        }
        Ok((checks::all(&overview, &buckets, &readings), readings))
    }

    fn tell(&self, findings: &[Finding], readings: &BTreeMap<String, Reading>) -> Result<(), Failure> {
        let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
        if self.json {
            let checks = findings.iter().map(|finding| {
                json!({ "check": finding.check, "verdict": finding.verdict.as_str(), "says": finding.says })
            });
            let clocks = readings.iter().map(|(node, reading)| {
                json!({ "node": node, "ahead_ms": reading.ahead_ms, "uncertain_ms": reading.uncertain_ms })
            });
            print_json(&json!({
                "verdict": worst.as_str(),
                "checks": checks.collect::<Vec<_>>(),
                "clocks": clocks.collect::<Vec<_>>(),
            }))?;
        } else {
            print_line(&screen(findings))?;
        }
        let bad = findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count() as u64;
        if bad == 0 {
            return Ok(());
        }
        Err(Failure::failed(format!("{} bad", counted(bad, "finding is", "findings are"))))
    }
}

fn gone(error: &gramme_client::Error) -> Finding {
    let says = format!("{error}: start a node, or name one with --node or GRAMME_NODE");
    Finding { check: "nodes", verdict: Verdict::Bad, says }
}

fn screen(findings: &[Finding]) -> String {
    let mut rows = table(["VERDICT", "CHECK", "SAYS"]);
    for finding in findings {
        rows.add_row([finding.verdict.as_str(), finding.check, &finding.says]);
    }
    let of = |verdict: Verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    format!(
        "{}\n{} ok, {} to look at, {} bad",
        lines(&rows),
        of(Verdict::Ok),
        of(Verdict::Warn),
        of(Verdict::Bad)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_fits_a_line_each_under_its_verdict() {
        let finding = |verdict, check, says: &str| Finding { check, verdict, says: says.to_string() };
        let findings = [
            finding(Verdict::Bad, "nodes", "n1 is down: start it"),
            finding(Verdict::Ok, "clocks", "they agree"),
        ];
        let expected = "VERDICT  CHECK   SAYS\n\
            bad      nodes   n1 is down: start it\n\
            ok       clocks  they agree\n\
            1 ok, 0 to look at, 1 bad";
        assert_eq!(screen(&findings), expected);
    }
}
