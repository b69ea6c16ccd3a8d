//! Workers that the master has lost, and whose engine has not noticed.

use super::*;

/// So many run here, and nobody is lost yet.
fn running(wish: Wish) -> House {
    let mut house = House::with(wish, queued(1_000));
    while house.here.len() < wish.max as usize {
        let here = count(house.here.len());
        house.join(here..house.next);
        house.pass(SECOND * 10);
    }
    house.started.clear();
    house
}

fn lose(house: &mut House, jobs: std::ops::Range<u32>) {
    house.here.retain(|here| !jobs.clone().any(|job| here.job == Some(job.to_string())));
}

#[test]
fn one_that_is_lost_holds_its_place_for_a_minute_only() {
    let mut house = running(wish(0, 8));
    lose(&mut house, 0..2);
    house.pass(SECOND * 58);
    assert_eq!(house.steps(), [], "it may come back");
    house.pass(SECOND * 20);
    assert_eq!(house.steps(), [2]);
    house.join(8..10);
    house.pass(MINUTE * 60);
    assert_eq!(house.steps(), [2], "one for each");
    // Their node was dead, as Slurm sees at last.
    (0..2).for_each(|job| house.set(job, State::Ended(End::Failed("NODE_FAIL".to_owned()))));
    house.pass(MINUTE * 60);
    assert_eq!(house.steps(), [2]);
}

#[test]
fn there_are_never_more_that_are_here_or_come_than_there_may_be() {
    let mut house = running(wish(0, 8));
    lose(&mut house, 0..2);
    house.pass(MINUTE * 2);
    assert_eq!(house.steps(), [2]);
    // They come back before the others begin, which are then too many, whatever there is to do.
    for job in 0..2 {
        house.here.push(Here { job: Some(job.to_string()), slots: 1, is_proven: true });
    }
    house.pass(MINUTE * 5);
    assert_eq!(house.taken_back(), [["9", "8"]]);
    assert_eq!(house.steps(), [2]);
}

#[test]
fn where_all_are_lost_again_and_again_there_are_twice_as_many_at_most() {
    let mut house = running(wish(0, 4));
    for _ in 0..5 {
        let all = house.next;
        lose(&mut house, 0..all);
        house.pass(MINUTE * 3);
        let (here, all) = (count(house.here.len()), house.next);
        house.join(all - (4 - here).min(all)..all);
        house.pass(MINUTE * 3);
    }
    assert_eq!(house.next, 8, "{:?}", house.started);
}

#[test]
fn one_that_was_put_in_line_again_takes_the_place_of_the_other() {
    let mut house = running(wish(0, 4));
    lose(&mut house, 0..1);
    house.pass(SECOND * 90);
    assert_eq!(house.steps(), [1]);
    house.join(4..5);
    house.set(0, pends("BeginTime"));
    house.pass(MINUTE * 5);
    assert_eq!((house.steps(), house.taken_back()), (vec![1], vec![vec!["0"]]));
}

#[test]
fn where_all_were_lost_it_is_told() {
    let mut house = running(wish(0, 2));
    lose(&mut house, 0..2);
    house.pass(SECOND * 30);
    house.says("2 workers were lost, which Slurm has not noticed: others are started after a minute");
    house.pass(MINUTE);
    house.says("2 workers pend in Slurm: Resources");
    // Those are lost as well: there is no other for them.
    house.join(2..4);
    lose(&mut house, 0..4);
    house.pass(SECOND * 90);
    house.says("4 workers were lost, which Slurm has not noticed: others are started when it has");
    assert_eq!(house.steps(), [2]);
}

#[test]
fn who_ends_as_it_should_is_not_told_of_as_lost() {
    let mut house = running(wish(0, 2));
    let outlook = |house: &House| house.keeper.outlook().unwrap_or_default();
    house.backlog = Backlog::default();
    house.pass(SECOND * 11);
    lose(&mut house, 0..2);
    for _ in 0..20 {
        // It completes, which takes a while.
        house.tick();
        assert!(!outlook(&house).contains("lost"), "nobody misses them: {}", outlook(&house));
    }

    let mut house = running(wish(0, 2));
    house.pass(SECOND * 11);
    lose(&mut house, 0..2);
    house.tick();
    house.tick();
    assert!(!outlook(&house).contains("lost"), "it was asked just then: {}", outlook(&house));
    house.pass(SECOND * 22);
    house.says("2 workers were lost");
}

#[test]
fn so_many_as_are_kept_are_kept_when_one_is_lost() {
    let mut house = House::with(wish(2, 2), Backlog::default());
    house.join(0..2);
    lose(&mut house, 0..1);
    house.pass(MINUTE * 3);
    assert_eq!(house.started.last().map(|(_, workers, stay)| (*workers, *stay)), Some((1, true)));
    assert_eq!(house.steps(), [2, 1]);
}
