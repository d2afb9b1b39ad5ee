//! The cheapest flow of a wanted size through a network of whole capacities: what turns "fair, distinct, spread and
//! moving little" into one exact answer.
//!
//! Invariant: the flow found has the least cost of all flows of its size, and the same network, given in the same
//! order, has the same flow on every machine: only whole numbers are compared, ties go by the order of edges.
//!
//! It is the primal-dual method: shortest distances over reduced costs (Dijkstra), then as much flow as the edges on
//! shortest ways take at once (Dinic), until what is wanted flows. It refuses negative costs.

use alloc::collections::{BinaryHeap, VecDeque};
use alloc::vec::Vec;
use core::cmp::Reverse;

/// A directed network; edges are numbered as they are added.
pub(super) struct Network {
    nodes: usize,
    /// Each edge with its opposite after it, which can take back what flows.
    edges: Vec<Edge>,
}

struct Edge {
    to: u32,
    room: u32,
    cost: i64,
}

impl Network {
    pub(super) fn new(nodes: usize) -> Network {
        Network { nodes, edges: Vec::new() }
    }

    /// One more node; says which.
    pub(super) fn node(&mut self) -> usize {
        self.nodes += 1;
        self.nodes - 1
    }

    /// One more edge; says which. `cost` is what each unit on it costs, 0 or more.
    pub(super) fn edge(&mut self, from: usize, to: usize, room: usize, cost: i64) -> usize {
        assert!(cost >= 0, "costs are not negative");
        self.edges.push(Edge { to: to as u32, room: room as u32, cost });
        self.edges.push(Edge { to: from as u32, room: 0, cost: -cost });
        self.edges.len() - 2
    }

    /// How much flows on an edge.
    pub(super) fn on(&self, edge: usize) -> usize {
        self.edges[edge ^ 1].room as usize
    }

    /// Sends as much as can flow, at the least cost; says how much that is.
    pub(super) fn send(&mut self, source: usize, sink: usize) -> usize {
        let ways = Ways::of(self);
        let mut height = alloc::vec![0i64; self.nodes];
        let mut sent = 0;
        while self.raise(&ways, &mut height, source, sink) {
            while let Some(levels) = self.levels(&ways, &height, source, sink) {
                sent += self.fill(&ways, &height, levels, source, sink);
            }
        }
        sent
    }

    /// Raises heights to the distances from the source, so that no edge with room goes down by more than it costs and
    /// those on shortest ways by just that much. False once the sink is out of reach.
    fn raise(&self, ways: &Ways, height: &mut [i64], source: usize, sink: usize) -> bool {
        let mut distance = alloc::vec![i64::MAX; self.nodes];
        let mut heap = BinaryHeap::new();
        distance[source] = 0;
        heap.push(Reverse((0i64, source)));
        while let Some(Reverse((far, at))) = heap.pop() {
            if far > distance[at] {
                continue;
            }
            if at == sink {
                break;
            }
            for &way in ways.from(at) {
                let edge = &self.edges[way as usize];
                let to = edge.to as usize;
                if edge.room == 0 {
                    continue;
                }
                let reached = far + edge.cost + height[at] - height[to];
                if reached < distance[to] {
                    distance[to] = reached;
                    heap.push(Reverse((reached, to)));
                }
            }
        }
        let most = distance[sink];
        if most == i64::MAX {
            return false;
        }
        for (height, distance) in height.iter_mut().zip(distance) {
            *height += distance.min(most);
        }
        true
    }

    fn is_shortest(&self, height: &[i64], from: usize, edge: &Edge) -> bool {
        edge.room > 0 && edge.cost + height[from] == height[edge.to as usize]
    }

    /// How many shortest edges each node is away from the source; none if the sink is out of their reach.
    fn levels(&self, ways: &Ways, height: &[i64], source: usize, sink: usize) -> Option<Vec<u32>> {
        let mut levels = alloc::vec![UNREACHED; self.nodes];
        let mut next = VecDeque::from([source]);
        levels[source] = 0;
        while let Some(at) = next.pop_front() {
            if levels[at] >= levels[sink] {
                break;
            }
            for &way in ways.from(at) {
                let edge = &self.edges[way as usize];
                if self.is_shortest(height, at, edge) && levels[edge.to as usize] == UNREACHED {
                    levels[edge.to as usize] = levels[at] + 1;
                    next.push_back(edge.to as usize);
                }
            }
        }
        (levels[sink] != UNREACHED).then_some(levels)
    }

    /// Sends along shortest edges, each one level further, until every such way has a full edge.
    fn fill(
        &mut self,
        ways: &Ways,
        height: &[i64],
        mut levels: Vec<u32>,
        source: usize,
        sink: usize,
    ) -> usize {
        let mut tried = alloc::vec![0usize; self.nodes];
        let (mut path, mut at, mut sent): (Vec<usize>, usize, usize) = (Vec::new(), source, 0);
        loop {
            if at == sink {
                let room = path.iter().map(|&way| self.edges[way].room).min().unwrap_or(0);
                for &way in &path {
                    self.edges[way].room -= room;
                    self.edges[way ^ 1].room += room;
                }
                sent += room as usize;
                let full = path.iter().position(|&way| self.edges[way].room == 0).unwrap_or(0);
                at = self.edges[path[full] ^ 1].to as usize;
                path.truncate(full);
            }
            let onward = ways.from(at)[tried[at]..].iter().position(|&way| {
                let edge = &self.edges[way as usize];
                self.is_shortest(height, at, edge) && levels[edge.to as usize] == levels[at] + 1
            });
            if let Some(skipped) = onward {
                tried[at] += skipped;
                let way = ways.from(at)[tried[at]] as usize;
                path.push(way);
                at = self.edges[way].to as usize;
                continue;
            }
            levels[at] = UNREACHED;
            let Some(way) = path.pop() else { return sent };
            at = self.edges[way ^ 1].to as usize;
        }
    }
}

/// The edges and opposites that leave each node, in the order in which they were added.
struct Ways {
    starts: Vec<usize>,
    ways: Vec<u32>,
}

impl Ways {
    fn of(network: &Network) -> Ways {
        let from = |way: usize| network.edges[way ^ 1].to as usize;
        let mut starts = alloc::vec![0usize; network.nodes + 1];
        for way in 0..network.edges.len() {
            starts[from(way) + 1] += 1;
        }
        for node in 0..network.nodes {
            starts[node + 1] += starts[node];
        }
        let (mut next, mut ways) = (starts.clone(), alloc::vec![0u32; network.edges.len()]);
        for way in 0..network.edges.len() {
            ways[next[from(way)]] = way as u32;
            next[from(way)] += 1;
        }
        Ways { starts, ways }
    }

    fn from(&self, node: usize) -> &[u32] {
        &self.ways[self.starts[node]..self.starts[node + 1]]
    }
}

const UNREACHED: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_flows_is_the_most_and_the_cheapest() {
        // The cheap way through the middle must be given back in part for the most to flow.
        let mut net = Network::new(4);
        let (source, a, b, sink) = (0, 1, 2, 3);
        let edges = [
            net.edge(source, a, 2, 1),
            net.edge(source, b, 1, 4),
            net.edge(a, b, 1, 0),
            net.edge(a, sink, 1, 6),
            net.edge(b, sink, 2, 1),
        ];
        assert_eq!(net.send(source, sink), 3);
        assert_eq!(edges.map(|edge| net.on(edge)), [2, 1, 1, 1, 2]);
        let mut narrow = Network::new(3);
        narrow.edge(0, 1, 5, 0);
        let out = narrow.edge(1, 2, 2, 9);
        assert_eq!((narrow.send(0, 2), narrow.on(out)), (2, 2));
    }
}
