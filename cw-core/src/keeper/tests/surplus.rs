//! What pends and is no longer needed.

use super::*;

/// Four are asked for, and all pend.
fn pending(wish: Wish) -> House {
    let mut house = House::with(wish, queued(4));
    house.pass(SECOND * 12);
    assert_eq!(house.steps(), [4]);
    house
}

#[test]
fn what_pends_when_all_is_done_is_taken_back_after_a_while_and_nobody_is_held_up_by_that() {
    let mut house = pending(wish(0, 10));
    house.backlog = Backlog::default();
    house.pass(SECOND * 30);
    assert_eq!(house.taken_back(), [] as [Vec<&str>; 0], "there may be more in a moment");
    while house.withdrawn.is_empty() {
        house.tick();
    }
    assert_eq!(house.taken_back(), [["3", "2", "1", "0"]], "the last in line first");
    let looks = house.looks.len();
    house.pass(MINUTE * 60);
    assert_eq!((house.looks.len() - looks, house.withdrawn.len()), (1, 1), "nothing is left to ask about");
    house.backlog = queued(2);
    house.tick();
    house.tick();
    assert_eq!(house.steps(), [4, 2], "it was not cancelled by hand");
    assert!(house.keeper.pace.is_well() && house.logs.is_empty(), "{:?}", house.logs);
    assert_eq!(
        house.notes,
        ["no longer needed before it began, so taken back: 4 of the workers: 0, 1, 2, 3"]
    );
}

#[test]
fn what_pends_is_given_as_long_as_workers_without_tasks() {
    let mut house = pending(Wish { idle: Some(MINUTE * 5), ..wish(0, 10) });
    house.backlog = Backlog::default();
    house.pass(SECOND * 296);
    assert_eq!(house.taken_back().len(), 0);
    house.pass(SECOND * 20);
    assert_eq!(house.taken_back(), [["3", "2", "1", "0"]]);
}

#[test]
fn where_workers_stay_nothing_is_taken_back_but_what_is_above_the_most() {
    let mut house = pending(Wish { idle: None, ..wish(0, 4) });
    house.backlog = Backlog::default();
    house.pass(MINUTE * 60);
    assert_eq!(house.taken_back().len(), 0);
    house.keeper.handle(house.now, Event::Wished(Wish { idle: None, ..wish(0, 3) }));
    house.pass(MINUTE * 60);
    assert_eq!(house.taken_back(), [["3"]]);
}

#[test]
fn clients_that_are_away_want_their_workers_when_they_are_back() {
    let mut house = pending(wish(0, 10));
    house.backlog = Backlog { away: 3, ..Backlog::default() };
    house.pass(MINUTE * 60);
    assert_eq!((house.taken_back(), house.steps()), (vec![vec!["3"]], vec![4]), "and no others for them");
    house.backlog = Backlog::default();
    house.pass(MINUTE);
    assert_eq!(house.taken_back().len(), 2, "their sessions are over");
}

/// Its number may be another job's by now.
#[test]
fn one_that_the_engine_no_longer_knows_is_not_taken_back() {
    let mut house = pending(wish(0, 10));
    house.backlog = Backlog::default();
    house.pass(SECOND * 20);
    house.engine.as_mut().expect("it answers").retain(|seen| seen.job != "3");
    while house.withdrawn.is_empty() {
        house.tick();
    }
    assert_eq!(house.taken_back(), [["2", "1", "0"]]);
}

#[test]
fn what_does_not_just_wait_in_line_is_not_taken_back() {
    let mut house = pending(wish(0, 10));
    for job in 0..2 {
        house.set(job, State::Pending { why: "SUSPENDED".to_owned(), in_line: false });
    }
    house.backlog = Backlog::default();
    house.pass(MINUTE * 5);
    assert_eq!(house.taken_back(), [["3", "2"]]);
}

#[test]
fn an_engine_that_does_nothing_about_it_is_told_ever_more_rarely_and_nothing_is_claimed() {
    let mut house = pending(wish(0, 10));
    house.backlog = Backlog::default();
    house.is_deaf = true;
    house.pass(MINUTE * 60);
    assert!((5..=7).contains(&house.withdrawn.len()), "{:?}", house.withdrawn);
    assert_eq!((house.logs.len(), house.notes.len()), (1, 0), "{:?} {:?}", house.logs, house.notes);
    assert!(house.logs[0].contains("does not take back what is no longer needed: 4 of them pend as before"));
    house.is_deaf = false;
    house.pass(MINUTE * 40);
    assert_eq!(house.notes.len(), 1);
}

/// They were done by others before the master said another word.
#[test]
fn what_was_asked_for_just_before_all_was_done_is_taken_back_too() {
    let mut house = House::with(wish(0, 10), queued(4));
    house.backlog = Backlog::default();
    house.pass(MINUTE * 5);
    assert_eq!(house.taken_back(), [["3", "2", "1", "0"]]);
}

#[test]
fn as_many_are_taken_back_as_are_too_many() {
    let mut house = pending(wish(0, 10));
    house.join(0..1);
    // They were taken to need a worker each, and need two by now.
    house.backlog = learned(1_000, 1_200);
    house.pass(MINUTE * 10);
    assert_eq!(house.taken_back(), [["3", "2"]]);
    assert_eq!(house.steps(), [4]);
}

#[test]
fn slots_are_counted_and_not_workers() {
    let mut house = House::with(Wish { slots: 4, ..wish(0, 10) }, queued(16));
    house.pass(SECOND * 12);
    house.backlog = queued(9);
    house.pass(MINUTE * 5);
    assert_eq!(house.taken_back(), [["3"]], "three are needed for nine");
}

#[test]
fn who_sends_one_batch_after_the_other_keeps_its_place_in_the_line() {
    let mut house = pending(wish(0, 10));
    for _ in 0..20 {
        house.backlog = Backlog::default();
        house.pass(SECOND * 28);
        house.backlog = queued(4);
        house.pass(SECOND * 4);
    }
    assert_eq!((house.steps(), house.taken_back().len()), (vec![4], 0));
}

/// What is less for a moment counts for all of the time before.
#[test]
fn only_what_was_too_many_all_the_while_is_taken_back() {
    let mut house = pending(wish(0, 10));
    house.backlog = Backlog::default();
    house.pass(SECOND * 20);
    house.backlog = queued(3);
    house.tick();
    house.backlog = Backlog::default();
    house.pass(SECOND * 20);
    assert_eq!(house.taken_back(), [["3"]]);
}

#[test]
fn those_that_are_to_be_there_whatever_there_is_to_do_are_left() {
    let mut house = House::with(wish(2, 10), Backlog::default());
    house.pass(MINUTE);
    house.backlog = queued(6);
    house.pass(SECOND * 90);
    assert_eq!(house.next, 6, "{:?}", house.started);
    house.backlog = Backlog::default();
    house.pass(MINUTE * 60);
    assert_eq!(house.taken_back(), [["5", "4", "3", "2"]]);
    assert_eq!(house.next, 6, "none is missing");
}

#[test]
fn those_that_somebody_waits_for_are_left_while_he_does_and_until_there_was_work() {
    let mut house = House::new(Wish { waits: true, ..wish(0, 10) });
    house.start(3, false).unwrap();
    house.pass(MINUTE * 60);
    house.backlog = queued(2);
    house.pass(MINUTE);
    house.backlog = Backlog::default();
    house.pass(MINUTE * 60);
    assert_eq!(house.taken_back().len(), 0, "they are waited for");

    let mut house = House::new(wish(0, 10));
    house.start(3, false).unwrap();
    house.pass(MINUTE * 60);
    assert_eq!(house.taken_back().len(), 0, "they are there for what is to come");
    house.backlog = queued(2);
    house.pass(MINUTE);
    assert_eq!(house.taken_back(), [["2"]]);
    house.backlog = Backlog::default();
    house.pass(MINUTE);
    assert_eq!(house.taken_back(), [vec!["2"], vec!["1", "0"]]);
}

#[test]
fn one_that_has_begun_just_then_is_there_and_counts() {
    let mut house = pending(wish(0, 4));
    house.begins = true;
    house.backlog = Backlog::default();
    house.pass(SECOND * 42);
    assert_eq!(house.withdrawn.len(), 1);
    house.backlog = queued(100);
    house.pass(MINUTE * 4);
    assert_eq!(house.steps(), [4], "there are as many as there may be");
    house.join(0..4);
    assert!(house.keeper.pace.is_well());
}

#[test]
fn an_engine_that_forgets_what_was_taken_back_has_lost_nothing() {
    let mut house = pending(wish(0, 4));
    house.backlog = Backlog::default();
    while house.withdrawn.is_empty() {
        house.tick();
    }
    house.engine = Ok(Vec::new());
    house.pass(MINUTE * 3);
    assert!(house.keeper.pace.is_well() && house.logs.is_empty(), "{:?}", house.logs);
}

#[test]
fn an_engine_that_takes_nothing_back_is_told_of_and_asked_again_later() {
    let mut house = pending(wish(0, 4));
    house.backlog = Backlog::default();
    house.refusal = Some("scancel: it is not allowed".to_owned());
    house.pass(MINUTE * 5);
    assert!((2..=4).contains(&house.withdrawn.len()), "{:?}", house.withdrawn);
    assert_eq!(house.logs.len(), 1, "{:?}", house.logs);
    assert!(house.logs[0].contains("Slurm does not take back what is no longer needed: scancel: it is"));
    house.engine = Err("it is down".to_owned());
    let before = house.withdrawn.len();
    house.pass(MINUTE * 60);
    assert_eq!(house.withdrawn.len(), before, "nobody knows what there is");
}

#[test]
fn while_others_start_workers_none_is_taken_back() {
    let mut house = pending(wish(0, 10));
    let early = Wish { grows: false, ..wish(0, 10) };
    house.keeper.handle(house.now, Event::Wished(early));
    house.backlog = Backlog::default();
    house.pass(MINUTE * 10);
    assert_eq!(house.taken_back().len(), 0);
}
