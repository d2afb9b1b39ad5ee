//! How evenly requests fall on nodes: Figure 8 of the paper (6.2) again, its three strategies over many runs, and
//! beside them the placement that Gramme has, made at once and grown member by member.
//!
//! The load model is the one that gives the paper's figure: every position of the ring is asked for alike, and each
//! request costs 1 at each of the N homes. Efficiency is the mean load of a node over that of the busiest; it follows
//! from the lengths of arcs, so no request is drawn. The paper gives neither this model nor the number of partitions of
//! strategy 2, nor the order of tokens in strategy 3: 1,024, and at random, fit its figure best.
//!
//! Strategies 1 to 3 are written out here, for Gramme has no tokens. Its own columns go through `Layout::first` and
//! `plan`, as a cluster does.

use crate::rng::Rng;
use gramme_core::layout::plan::plan;
use gramme_core::layout::staged::{Change, Staged};
use gramme_core::limits::PARTITIONS_MAX;
use gramme_core::{Layout, Member, NodeId, Stamp};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The nodes of Figure 8.
pub const NODES: usize = 30;
/// Its copies.
pub const COPIES: usize = 3;
/// The metadata that each node keeps, in the figure's "abstract units": tokens of all nodes, or partitions.
pub const METADATA: [usize; 10] = [60, 120, 240, 480, 960, 1920, 3840, 7680, 15_360, 30_720];
/// What can be read off the figure, in hundredths, for strategies 1, 2 and 3. Four marks of strategy 1 hide under
/// others; those are where the two agree.
pub const FIGURE: [[u32; METADATA.len()]; 3] = [
    [52, 61, 69, 76, 82, 87, 91, 93, 95, 96],
    [53, 61, 70, 76, 82, 85, 88, 87, 85, 84],
    [86, 87, 90, 92, 94, 96, 97, 98, 98, 99],
];
/// How far a mean may be from what is read off the figure.
pub const TOLERANCE: f64 = 0.03;

const STRATEGY_2_PARTITIONS: usize = 1024;
const GROWN_FROM: usize = 10;
/// Runs of Gramme's own placement: chance only draws the ids of nodes, so they hardly differ.
const OURS: usize = 3;

/// What many runs came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub deviation: f64,
}

/// One column of the table: a point of the figure.
#[derive(Clone, Debug)]
pub struct Point {
    /// Tokens of all nodes, or partitions.
    pub metadata: usize,
    /// Strategies 1 to 3.
    pub strategies: [Spread; 3],
    /// Gramme's partitions here: the power of two just above, as far as it goes.
    pub partitions: Option<usize>,
    /// Its first layout of so many nodes.
    pub first: Option<Spread>,
    /// Its layout when ten members have grown to so many, one plan each.
    pub grown: Option<Spread>,
}

/// The whole figure. Beyond 4,000 units a quarter of the runs is enough: they differ less.
pub fn figure(seed: u64, runs: usize) -> Vec<Point> {
    METADATA.iter().map(|&metadata| point(seed, runs, metadata)).collect()
}

fn point(seed: u64, runs: usize, metadata: usize) -> Point {
    let runs = if metadata < 4000 { runs } else { runs.div_ceil(4) };
    let over = |runs: usize, name: &str, efficiency: &dyn Fn(&mut Rng) -> f64| {
        let stream = |run: usize| Rng::stream(seed, name, (metadata * 1000 + run) as u64);
        spread(&(0..runs.max(1)).map(|run| efficiency(&mut stream(run))).collect::<Vec<_>>())
    };
    let strategies = [
        over(runs, "strategy 1", &|rng| strategy_1(rng, metadata)),
        over(runs, "strategy 2", &|rng| strategy_2(rng, metadata)),
        over(runs, "strategy 3", &|rng| strategy_3(rng, metadata)),
    ];
    // 60 * 2^k has no power of two among it; 64 * 2^k is 7 % more.
    let partitions = Some(metadata.next_power_of_two()).filter(|&partitions| partitions <= PARTITIONS_MAX);
    let first =
        partitions.map(|q| over(OURS.min(runs), "first", &|rng| efficiency_of(&first(rng, NODES, q))));
    let grown = partitions.map(|q| over(OURS.min(runs), "grown", &|rng| efficiency_of(&grown(rng, q))));
    Point { metadata, strategies, partitions, first, grown }
}

fn spread(of: &[f64]) -> Spread {
    let mean = of.iter().sum::<f64>() / of.len() as f64;
    let square = of.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / of.len() as f64;
    Spread { mean, deviation: square.sqrt() }
}

fn efficiency(load: &[f64]) -> f64 {
    let busiest = load.iter().copied().fold(0.0, f64::max);
    load.iter().sum::<f64>() / load.len() as f64 / busiest
}

/// The first N distinct owners from here on, clockwise.
fn walk(owners: &[usize], from: usize) -> Vec<usize> {
    let mut homes = Vec::with_capacity(COPIES);
    for step in 0..owners.len() {
        let owner = owners[(from + step) % owners.len()];
        if !homes.contains(&owner) {
            homes.push(owner);
        }
        if homes.len() == COPIES {
            break;
        }
    }
    homes
}

/// Each node's tokens at random, in order around a ring of length 1.
fn random_tokens(rng: &mut Rng, metadata: usize) -> (Vec<f64>, Vec<usize>) {
    let place = |rng: &mut Rng| (rng.draw() >> 11) as f64 / (1u64 << 53) as f64;
    let mut tokens: Vec<(f64, usize)> = (0..metadata).map(|token| (place(rng), token % NODES)).collect();
    tokens.sort_by(|one, other| one.0.total_cmp(&other.0));
    tokens.into_iter().unzip()
}

/// T random tokens per node; the ranges lie between them.
fn strategy_1(rng: &mut Rng, metadata: usize) -> f64 {
    let (places, owners) = random_tokens(rng, metadata);
    let mut load = [0.0; NODES];
    for (at, &place) in places.iter().enumerate() {
        let before = if at == 0 { places[places.len() - 1] - 1.0 } else { places[at - 1] };
        walk(&owners, at).into_iter().for_each(|home| load[home] += place - before);
    }
    efficiency(&load)
}

/// T random tokens per node, equal partitions: each at the first N nodes from its end on.
fn strategy_2(rng: &mut Rng, metadata: usize) -> f64 {
    let (places, owners) = random_tokens(rng, metadata);
    let mut load = [0.0; NODES];
    for partition in 1..=STRATEGY_2_PARTITIONS {
        let end = partition as f64 / STRATEGY_2_PARTITIONS as f64;
        let next = places.partition_point(|&place| place < end);
        walk(&owners, next).into_iter().for_each(|home| load[home] += 1.0);
    }
    efficiency(&load)
}

/// Q/S tokens per node, one on each of Q equal partitions, in random order.
fn strategy_3(rng: &mut Rng, metadata: usize) -> f64 {
    let mut owners: Vec<usize> = (0..metadata).map(|token| token % NODES).collect();
    for at in (1..owners.len()).rev() {
        owners.swap(at, rng.index(at + 1));
    }
    let mut load = [0.0; NODES];
    for partition in 0..metadata {
        walk(&owners, partition).into_iter().for_each(|home| load[home] += 1.0);
    }
    efficiency(&load)
}

fn member(rng: &mut Rng, at: usize) -> Member {
    Member {
        id: NodeId(rng.draw()),
        name: format!("node{at}"),
        address: format!("node{at}:7402"),
        http: format!("node{at}:7400"),
        zone: String::new(),
        weight: 1,
    }
}

fn first(rng: &mut Rng, nodes: usize, partitions: usize) -> Layout {
    let members = (0..nodes).map(|at| member(rng, at)).collect();
    Layout::first(members, COPIES, partitions).expect("so many nodes keep so many copies")
}

fn grown(rng: &mut Rng, partitions: usize) -> Layout {
    let mut layout = first(rng, GROWN_FROM, partitions);
    for at in GROWN_FROM..NODES {
        let new = member(rng, at);
        let (mut staged, id) = (Staged::new(), new.id);
        staged.stage(&layout, id, Change::Join(new), Stamp(1), id).expect("a new node may join");
        layout = plan(&layout, &staged).expect("a join has a plan").last().clone();
    }
    layout
}

fn efficiency_of(layout: &Layout) -> f64 {
    let load: Vec<f64> = layout.members().iter().map(|member| layout.slots_of(member.id) as f64).collect();
    efficiency(&load)
}

/// The strategies whose means are further from the figure than [`TOLERANCE`], as (strategy, metadata).
pub fn off(points: &[Point]) -> Vec<(usize, usize)> {
    let mut off = Vec::new();
    for (at, point) in points.iter().enumerate() {
        for (strategy, row) in FIGURE.iter().enumerate() {
            if (point.strategies[strategy].mean - f64::from(row[at]) / 100.0).abs() > TOLERANCE {
                off.push((strategy + 1, point.metadata));
            }
        }
    }
    off
}

/// The table for a terminal.
pub fn table(points: &[Point]) -> String {
    let mut text = String::from("metadata ");
    points.iter().for_each(|point| text.push_str(&format!("{:>11}", point.metadata)));
    let mut row = |name: &str, cell: &dyn Fn(usize, &Point) -> String| {
        text.push_str(&format!("\n{name:<9}"));
        points.iter().enumerate().for_each(|(at, point)| text.push_str(&format!("{:>11}", cell(at, point))));
    };
    let said = |spread: Spread| format!("{:.2}±{:.2}", spread.mean, spread.deviation);
    for (strategy, paper) in FIGURE.iter().enumerate() {
        row(&format!("S{} paper", strategy + 1), &|at, _| format!("{:.2}", f64::from(paper[at]) / 100.0));
        row(&format!("S{} here", strategy + 1), &|_, point| said(point.strategies[strategy]));
    }
    let maybe = |spread: Option<Spread>| spread.map_or_else(|| "-".to_string(), said);
    row("gramme Q", &|_, point| point.partitions.map_or_else(|| "-".to_string(), |q| q.to_string()));
    row("at once", &|_, point| maybe(point.first));
    row("grown", &|_, point| maybe(point.grown));
    text.push('\n');
    text
}

/// The same for machines.
pub fn as_json(points: &[Point]) -> Value {
    let said = |spread: Spread| json!({"mean": spread.mean, "deviation": spread.deviation});
    let rows: Vec<Value> = points
        .iter()
        .enumerate()
        .map(|(at, point)| {
            json!({
                "metadata": point.metadata,
                "paper": FIGURE.map(|row| f64::from(row[at]) / 100.0),
                "strategies": point.strategies.map(said),
                "partitions": point.partitions,
                "first": point.first.map(said),
                "grown": point.grown.map(said),
            })
        })
        .collect();
    json!({"nodes": NODES, "copies": COPIES, "points": rows, "off": off(points)})
}

/// The same as a picture: lines are means of runs here, rings what the paper's figure shows.
pub fn svg(points: &[Point]) -> String {
    let x = |at: usize| LEFT + at as f64 * (WIDTH - LEFT - RIGHT) / (METADATA.len() - 1) as f64;
    let y = |efficiency: f64| TOP + (1.0 - efficiency) * (HEIGHT - TOP - BOTTOM) / (1.0 - LOWEST);
    let mut s = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"24\" font-size=\"16\">Load balance by metadata per node: {NODES} nodes, {COPIES} copies (the paper, Figure 8)</text>\n"
    );
    for tenth in 4..=10 {
        let (at, label) = (y(f64::from(tenth) / 10.0), f64::from(tenth) / 10.0);
        let _ = writeln!(
            s,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label:.1}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0
        );
    }
    for (at, point) in points.iter().enumerate() {
        let _ = writeln!(
            s,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(at),
            HEIGHT - BOTTOM + 20.0,
            point.metadata
        );
    }
    let _ = writeln!(
        s,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">metadata at each node: tokens or partitions</text>\n<text transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\">efficiency: mean load / load of the busiest</text>",
        f64::midpoint(LEFT, WIDTH - RIGHT),
        HEIGHT - 12.0,
        HEIGHT / 2.0
    );
    let mut line = |order: usize, name: &str, colour: &str, values: Vec<(usize, f64)>| {
        let path: Vec<String> =
            values.iter().map(|&(at, value)| format!("{:.1},{:.1}", x(at), y(value))).collect();
        // The first layout lies under the grown one, and is to be seen.
        let wide = if order == 3 { 6 } else { 2 };
        let key = HEIGHT - BOTTOM - 120.0 + 20.0 * order as f64;
        let _ = writeln!(
            s,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{wide}\"/>\n<line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{key:.1}\" y2=\"{key:.1}\" stroke=\"{colour}\" stroke-width=\"{wide}\"/><text x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
            path.join(" "),
            WIDTH - RIGHT - 330.0,
            WIDTH - RIGHT - 300.0,
            WIDTH - RIGHT - 292.0,
            key + 4.0
        );
    };
    for (strategy, name) in NAMES.iter().enumerate() {
        let means = points.iter().map(|point| point.strategies[strategy].mean).enumerate().collect();
        line(strategy, name, COLOURS[strategy], means);
    }
    let ours = |of: fn(&Point) -> Option<Spread>| {
        points.iter().enumerate().filter_map(|(at, point)| Some((at, of(point)?.mean))).collect()
    };
    line(3, "gramme: the first layout", COLOURS[3], ours(|point| point.first));
    line(4, "gramme: grown from 10 members by 20 plans", COLOURS[4], ours(|point| point.grown));
    for (row, colour) in FIGURE.iter().zip(COLOURS) {
        for (at, &hundredths) in row.iter().enumerate() {
            let _ = writeln!(
                s,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"none\" stroke=\"{colour}\"/>",
                x(at),
                y(f64::from(hundredths) / 100.0)
            );
        }
    }
    s.push_str("</svg>\n");
    s
}

const NAMES: [&str; 3] = [
    "strategy 1: random tokens (rings: the paper)",
    "strategy 2: random tokens, equal partitions",
    "strategy 3: Q/S tokens, equal partitions",
];
const COLOURS: [&str; 5] = ["#c0392b", "#8e6bbf", "#2471a3", "#1e8449", "#d68910"];
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 56.0;
const LOWEST: f64 = 0.4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figure_8_comes_out_again_and_ours_is_above_it() {
        let points = figure(0, 200);
        assert_eq!(off(&points), [], "\n{}", table(&points));
        for (at, point) in points.iter().enumerate() {
            let [one, _, three] = point.strategies;
            assert!(three.mean > one.mean, "strategy 3 is better than 1 at {}", point.metadata);
            let paper = f64::from(FIGURE[2][at]) / 100.0;
            for ours in [point.first, point.grown].into_iter().flatten() {
                assert!(ours.mean >= paper, "{}: {ours:?}", point.metadata);
            }
        }
        let picture = svg(&points);
        assert_eq!(picture.matches("<polyline").count(), 5);
        assert_eq!(picture.matches("<circle").count(), 30);
        assert_eq!(as_json(&points)["points"].as_array().map(Vec::len), Some(METADATA.len()));
    }
}
