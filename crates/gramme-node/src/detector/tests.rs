use super::*;

const PEER: NodeId = NodeId(1);
const NEIGHBOURS: [NodeId; 2] = [NodeId(2), NodeId(3)];

fn at(ms: u64) -> Mono {
    Mono(ms * 1_000_000)
}

fn member(id: NodeId) -> Member {
    let text = || id.to_string();
    Member { id, name: text(), address: text(), http: text(), zone: "here".to_string(), weight: 1 }
}

fn connected_at(ms: u64) -> Detector {
    let all = [PEER, NEIGHBOURS[0], NEIGHBOURS[1]].map(member);
    let mut detector = Detector::new(&all);
    all.iter().for_each(|peer| detector.connected(peer.id, at(ms)));
    detector
}

#[test]
fn a_peer_is_down_until_a_connection_stands_and_when_it_breaks() {
    let mut detector = Detector::new(&[member(PEER)]);
    assert_eq!(detector.health(PEER, at(0)), Health::Down);
    detector.connected(PEER, at(1));
    assert_eq!(detector.health(PEER, at(2)), Health::Up);
    detector.disconnected(PEER);
    assert_eq!(detector.health(PEER, at(3)), Health::Down);
}

#[test]
fn silence_makes_suspect_then_down_and_a_word_makes_up() {
    let mut detector = connected_at(0);
    assert_eq!(detector.health(PEER, at(599)), Health::Up);
    assert_eq!(detector.health(PEER, at(700)), Health::Suspect);
    assert_eq!(detector.health(PEER, at(1600)), Health::Down);
    detector.heard(PEER, at(1700));
    assert_eq!(detector.health(PEER, at(1701)), Health::Up);
}

#[test]
fn one_open_question_and_not_a_word_since_is_enough() {
    let mut detector = connected_at(0);
    detector.asked(PEER, Question::Read, at(100));
    assert!(detector.listen(at(115)).is_empty(), "its patience is not over");
    assert_eq!(detector.listen(at(125)), [PEER]);
    assert!(detector.listen(at(126)).is_empty(), "that is news only once");
    assert!(detector.is_silent(PEER));
    assert_eq!(detector.health(PEER, at(126)), Health::Suspect);
}

#[test]
fn whoever_says_anything_has_not_gone_silent() {
    let mut detector = connected_at(0);
    detector.asked(PEER, Question::Merge, at(100));
    detector.heard(PEER, at(110));
    assert!(detector.listen(at(400)).is_empty());
}

#[test]
fn what_may_take_its_time_makes_nobody_silent() {
    let mut detector = connected_at(0);
    detector.asked(PEER, Question::Long, at(100));
    assert!(detector.listen(at(400)).is_empty());
    detector.unanswered(PEER, Question::Long, at(1_000), Duration::from_millis(900));
    detector.heard(PEER, at(1_000));
    assert_eq!(detector.health(PEER, at(1_000)), Health::Up);
}

#[test]
fn one_that_was_silent_is_watched_for_a_while_when_it_is_back() {
    let mut detector = connected_at(0);
    detector.asked(PEER, Question::Read, at(0));
    detector.listen(at(30));
    detector.heard(PEER, at(500));
    assert!(!detector.is_silent(PEER), "nobody need take its place");
    assert_eq!(detector.health(PEER, at(1_400)), Health::Suspect, "but others are asked first");
    detector.heard(PEER, at(1_450));
    assert_eq!(detector.health(PEER, at(1_501)), Health::Up);
}

#[test]
fn a_blink_is_forgiven_at_once() {
    let mut detector = connected_at(0);
    detector.asked(PEER, Question::Read, at(0));
    detector.listen(at(30));
    detector.heard(PEER, at(40));
    assert_eq!(detector.health(PEER, at(41)), Health::Up);
}

#[test]
fn unanswered_questions_make_suspect_even_while_it_talks() {
    let mut detector = connected_at(0);
    for _ in 0..3 {
        detector.asked(PEER, Question::Read, at(5));
        detector.unanswered(PEER, Question::Read, at(205), Duration::from_millis(200));
    }
    detector.heard(PEER, at(206));
    assert_eq!(detector.health(PEER, at(210)), Health::Suspect);
    detector.answered(PEER, Question::Read, at(211), Duration::from_millis(1));
    assert_eq!(detector.health(PEER, at(212)), Health::Up, "an answer clears it");
}

#[test]
fn a_peer_that_left_much_unanswered_is_tried_again_after_a_while() {
    let mut detector = connected_at(0);
    let ignores = |detector: &mut Detector, ms| {
        detector.unanswered(PEER, Question::Merge, at(ms), Duration::from_millis(200));
        detector.heard(PEER, at(ms));
    };
    (0..3).for_each(|_| ignores(&mut detector, 0));
    detector.heard(PEER, at(1_400));
    assert_eq!(detector.health(PEER, at(1_400)), Health::Suspect);
    assert_eq!(detector.health(PEER, at(1_500)), Health::Up);
    ignores(&mut detector, 1_600);
    assert_eq!(detector.health(PEER, at(1_600)), Health::Suspect, "and one more silence is enough");
}

/// Ten reads of each peer in each of so many parts of two seconds.
fn parts(detector: &mut Detector, from_s: u64, count: u64, slow_ms: u64) -> Vec<(NodeId, bool)> {
    let mut changed = Vec::new();
    for part in 0..count {
        let now = at((from_s + 2 * part) * 1_000);
        for _ in 0..10 {
            detector.answered(PEER, Question::Read, now, Duration::from_millis(slow_ms));
            for it in NEIGHBOURS {
                detector.answered(it, Question::Read, now, Duration::from_millis(1));
            }
        }
        changed.extend(detector.judge(now));
    }
    changed
}

#[test]
fn a_peer_much_slower_than_its_neighbours_is_demoted_and_comes_back_when_it_is_well() {
    let mut detector = connected_at(0);
    assert_eq!(parts(&mut detector, 2, 10, 9), [], "nine times slower is no illness");
    assert_eq!(parts(&mut detector, 22, 4, 50), [], "nor is a bad moment");
    assert_eq!(parts(&mut detector, 30, 1, 50), [(PEER, true)]);
    assert!(detector.is_degraded(PEER));
    assert_eq!(detector.health(PEER, at(30_001)), Health::Suspect);
    assert_eq!(detector.health(NEIGHBOURS[0], at(30_001)), Health::Up);
    assert_eq!(parts(&mut detector, 32, 4, 1), []);
    assert_eq!(parts(&mut detector, 40, 1, 1), [(PEER, false)]);
}

#[test]
fn a_node_that_was_frozen_itself_blames_nobody() {
    let mut detector = connected_at(0);
    detector.asked(PEER, Question::Read, at(1));
    assert_eq!(detector.health(PEER, at(9_000)), Health::Down);
    detector.thawed(at(9_000));
    assert!(detector.listen(at(9_001)).is_empty());
    assert_eq!(detector.health(PEER, at(9_001)), Health::Up);
}

#[test]
fn a_node_whose_own_timers_are_late_is_more_patient_first() {
    let mut detector = connected_at(0);
    detector.own_delay(Duration::from_millis(120));
    detector.asked(PEER, Question::Read, at(100));
    assert!(detector.listen(at(150)).is_empty());
    assert_eq!(detector.listen(at(161)), [PEER], "patient, not blind");
    detector.heard(PEER, at(162));
    (0..4).for_each(|_| detector.own_delay(Duration::from_millis(1)));
    detector.asked(PEER, Question::Read, at(500));
    assert_eq!(detector.listen(at(521)), [PEER], "and as quick as ever when it is well");
}

#[test]
fn patience_follows_the_peer_within_its_bounds() {
    let mut detector = connected_at(0);
    assert_eq!(detector.fallback_after(PEER), Duration::from_millis(FALLBACK_AFTER_MS_MIN));
    for ms in 0..200 {
        detector.answered(PEER, Question::Merge, at(ms), Duration::from_millis(60));
    }
    let patience = detector.fallback_after(PEER).as_millis();
    assert!((59..=62).contains(&patience), "{patience} ms");
    for ms in 0..9_000 {
        detector.answered(PEER, Question::Merge, at(ms), Duration::from_secs(5));
    }
    assert_eq!(detector.fallback_after(PEER), Duration::from_millis(FALLBACK_AFTER_MS_MAX));
}

#[test]
fn a_queue_costs_more_than_a_slow_answer_and_old_slowness_is_forgotten() {
    let mut detector = connected_at(0);
    detector.answered(PEER, Question::Read, at(0), Duration::from_millis(2));
    detector.answered(NEIGHBOURS[0], Question::Read, at(0), Duration::from_millis(1));
    let dearer = |detector: &Detector, ms| detector.cost(PEER, at(ms)) > detector.cost(NEIGHBOURS[0], at(ms));
    assert!(dearer(&detector, 1));
    detector.asked(NEIGHBOURS[0], Question::Read, at(1));
    assert!(!dearer(&detector, 1));
    detector.answered(NEIGHBOURS[0], Question::Read, at(3_000), Duration::from_millis(1));
    assert!(!dearer(&detector, 3_000), "it is worth another try");
}

#[test]
fn a_stranger_is_down_and_changes_nothing() {
    let mut detector = connected_at(0);
    detector.heard(NodeId(99), at(5));
    assert_eq!(detector.health(NodeId(99), at(5)), Health::Down);
}
