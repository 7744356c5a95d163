use super::*;

fn recorded(offset: i64, exact: bool, id: &str) -> Recorded {
    Recorded { offset, exact, metadata: tag(Some(id)) }
}

fn facts<'a>(committed: Option<(i64, &'a str)>, state: Option<&'a Recorded>) -> Facts<'a> {
    Facts { committed, state, exactly_once: true, unplaced: false, id: Some("a"), reset: 0, range: (0, 100) }
}

fn at(facts: &Facts<'_>) -> Result<(i64, bool), Problem> {
    decide(facts, OnPositionMismatch::Fail).map(|start| (start.at, start.warning.is_some()))
}

#[test]
fn formats_of_version_1_are_read() {
    assert_eq!(&*tag(Some("xyz")), "stream-core/1 topic=xyz");
    assert_eq!(
        (tagged_id("stream-core/1 topic=xyz"), tagged_id("stream-core/1"), tagged_id("")),
        (Some("xyz"), None, None)
    );
    assert!(is_ours("stream-core/1") && !is_ours("") && !is_ours("stream-core/2 topic=a"));
    let value = b"\x01\x01\0\0\0\0\0\0\x01\x02stream-core/1 topic=a";
    assert_eq!(recorded(258, true, "a").write(), value);
    let mut kept = Kept::default();
    kept.take(&position_key("in"), value).unwrap();
    kept.take(&meaning_key("g-table"), &meaning_value("codec json")).unwrap();
    kept.take(&[0], b"stream time").unwrap();
    assert_eq!(kept.positions.get("in"), Some(&recorded(258, true, "a")));
    assert_eq!(kept.meanings.get("g-table").map(String::as_str), Some("codec json"));
    assert!(kept.take(&position_key("in"), b"\x02").unwrap_err().contains("later version"));
    assert!(kept.take(&meaning_key("g-table"), b"\x02codec json").unwrap_err().contains("later version"));
}

#[test]
fn a_committed_offset_of_the_topic_counts() {
    let of_a = tag(Some("a"));
    assert_eq!(at(&facts(Some((7, &of_a)), None)), Ok((7, false)));
    assert_eq!(at(&facts(Some((7, "")), None)), Ok((7, false)), "written before there were ids");
    for exact in [false, true] {
        assert_eq!(at(&facts(Some((7, &of_a)), Some(&recorded(7, exact, "a")))), Ok((7, false)));
    }
    let no_ids = Facts { id: None, ..facts(Some((7, &of_a)), None) };
    assert_eq!(at(&no_ids), Ok((7, false)));
}

#[test]
fn without_a_committed_offset_the_states_position_counts() {
    assert_eq!(at(&facts(None, Some(&recorded(7, false, "a")))), Ok((7, true)));
    assert_eq!(at(&facts(None, None)), Ok((0, false)), "the first start");
    let unplaced = Facts { unplaced: true, ..facts(None, None) };
    assert_eq!(at(&unplaced), Err(Problem::Lost(Lost::Unplaced)));
}

#[test]
fn a_position_of_another_topic_is_lost() {
    let (of_a, of_b) = (tag(Some("a")), tag(Some("b")));
    let lost = |at| Err(Problem::Lost(Lost::OtherTopic { at, old: "b".into(), new: "a".into() }));
    assert_eq!(at(&facts(Some((7, &of_b)), None)), lost(7));
    assert_eq!(at(&facts(None, Some(&recorded(7, true, "b")))), lost(7));
    assert_eq!(at(&facts(Some((7, &of_b)), Some(&recorded(7, true, "b")))), lost(7));
    // The new topic's position was written, and the process died before the commit.
    assert_eq!(at(&facts(Some((7, &of_b)), Some(&recorded(0, false, "a")))), Ok((0, true)));
    // The same number of another topic is another position.
    let mismatch = Err(Problem::Mismatch { committed: 7, ours: true, state: 7 });
    assert_eq!(at(&facts(Some((7, &of_a)), Some(&recorded(7, true, "b")))), mismatch);
}

#[test]
fn different_positions_are_refused_only_where_a_transaction_wrote_them() {
    let of_a = tag(Some("a"));
    let (exact, loose) = (recorded(7, true, "a"), recorded(7, false, "a"));
    let mismatch = |ours| Err(Problem::Mismatch { committed: 3, ours, state: 7 });
    assert_eq!(at(&facts(Some((3, &of_a)), Some(&exact))), mismatch(true));
    assert_eq!(at(&facts(Some((3, "")), Some(&exact))), mismatch(false), "a tool has set it");
    for (differ, start) in [(OnPositionMismatch::Committed, 3), (OnPositionMismatch::State, 7)] {
        assert_eq!(decide(&facts(Some((3, "")), Some(&exact)), differ).map(|s| s.at), Ok(start));
    }
    // A position in another topic says nothing of this one, whatever the option is.
    let (elsewhere, differ) = (recorded(7, true, "b"), OnPositionMismatch::State);
    let lost = Lost::OtherTopic { at: 7, old: "b".into(), new: "a".into() };
    assert_eq!(at(&facts(Some((3, "")), Some(&elsewhere))), mismatch(false));
    assert_eq!(decide(&facts(Some((3, "")), Some(&elsewhere)), differ), Err(Problem::Lost(lost)));
    let at_least_once = Facts { exactly_once: false, ..facts(Some((3, "")), Some(&exact)) };
    assert_eq!(at(&at_least_once), Ok((3, true)));
    assert_eq!(at(&facts(Some((3, &of_a)), Some(&loose))), Ok((3, false)), "a crash before the commit");
    assert_eq!(at(&facts(Some((3, "")), Some(&loose))), Ok((3, true)), "a tool has set it");
    assert_eq!(at(&facts(Some((9, &of_a)), Some(&loose))), Ok((9, true)), "a position is missing");
}

#[test]
fn a_position_that_the_topic_does_not_have_is_lost() {
    for offset in [4, 101] {
        let facts = Facts { range: (5, 100), ..facts(Some((offset, "")), None) };
        let lost = Lost::OutOfRange { at: offset, start: 5, end: 100 };
        assert_eq!(at(&facts), Err(Problem::Lost(lost.clone())));
        assert_eq!(find(&lost, facts.range, OnLostPosition::Fail), None);
        assert_eq!(find(&lost, facts.range, OnLostPosition::Earliest).map(|s| s.at), Some(5));
        assert_eq!(find(&lost, facts.range, OnLostPosition::Latest).map(|s| s.at), Some(100));
    }
    for offset in [5, 100] {
        let facts = Facts { range: (5, 100), ..facts(Some((offset, "")), None) };
        assert_eq!(at(&facts), Ok((offset, false)));
    }
}
