//! Rows on their way to the client: never twice, never missing.

use super::check;

#[test]
fn a_query_ends_when_its_rows_are_read_and_its_tasks_have_reported() {
    check(
        "
        join 1 slots 2
        submit 1
        planned 1: 2
        begun 1.0.0.0
        fetched 1.0.0.0
        finish 1.0.0.0
        finish 1.0.1.0
        fetched 1.0.1.0
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 2
            launch 1.0.0.0 on 1
            launch 1.0.1.0 on 1
            result of 1 at 1.0.0.0@1 1.0.1.0@1
        fetched 1.0.1.0
            release 1 on 1
            end 1: ok
        ",
    );
}

#[test]
fn what_the_root_has_read_whole_has_yet_to_say_what_it_took() {
    let planned = "
        join 1 slots 1
        join 2 slots 1
        submit 1
        planned 1: 1; 1 <- 0
        read 1.1.0.0 1.0.0.0
        fetched 1.1.0.0
        finish 1.1.0.0";
    let launched = "
        submit 1
            plan 1 on 1 2
        planned 1: 1; 1 <- 0
            launch 1.0.0.0 on 2
            launch 1.1.0.0 on 1 < 1.0.0.0@2
            result of 1 at 1.1.0.0@1";
    check(
        &format!("{planned}\n        finish 1.0.0.0\n        "),
        &format!(
            "{launched}
        finish 1.0.0.0
            release 1 on 1
            release 1 on 2
            end 1: ok
        "
        ),
    );
    check(
        &format!("{planned}\n        disconnect 2\n        @2\n        tick\n        "),
        &format!(
            "{launched}
        tick
            evict 2
            release 1 on 1
            end 1: ok
        "
        ),
    );
}

#[test]
fn rows_that_were_read_prove_that_a_lost_task_had_finished() {
    check(
        "
        join 1 slots 1
        join 2 slots 1
        submit 1
        planned 1: 2
        fetched 1.0.0.0
        disconnect 2
        @2
        tick
        finish 1.0.1.0
        fetched 1.0.1.0
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 2
            launch 1.0.0.0 on 2
            launch 1.0.1.0 on 1
            result of 1 at 1.0.0.0@2 1.0.1.0@1
        tick
            evict 2
        fetched 1.0.1.0
            release 1 on 1
            end 1: ok
        ",
    );
}

#[test]
fn a_failure_after_the_last_row_changes_nothing() {
    check(
        "
        join 1
        submit 1
        planned 1: 1
        begun 1.0.0.0
        fetched 1.0.0.0
        fail 1.0.0.0 user
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1
            launch 1.0.0.0 on 1
            result of 1 at 1.0.0.0@1
        fail 1.0.0.0 user
            release 1 on 1
            end 1: ok
        ",
    );
}

#[test]
fn a_result_that_has_not_begun_is_made_again() {
    check(
        "
        join 1
        join 2
        submit 1
        planned 1: 1
        finish 1.0.0.0
        disconnect 2
        @2
        tick
        begun 1.0.0.1
        fetched 1.0.0.1
        finish 1.0.0.1
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 1
            launch 1.0.0.0 on 2
            result of 1 at 1.0.0.0@2
        tick
            evict 2
            launch 1.0.0.1 on 1
            result of 1 at 1.0.0.1@1
        finish 1.0.0.1
            release 1 on 1
            end 1: ok
        ",
    );
}

#[test]
fn a_result_that_has_begun_is_never_restarted() {
    check(
        "
        join 1
        join 2
        submit 1
        planned 1: 1
        begun 1.0.0.0
        disconnect 2
        @2
        tick
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 1
            launch 1.0.0.0 on 2
            result of 1 at 1.0.0.0@2
        tick
            evict 2
            end 1: Unavailable: part of the result had already been delivered when executor 2 was lost; the query may be submitted again
        ",
    );
}

#[test]
fn a_result_is_not_restarted_behind_its_readers_back() {
    check(
        "
        join 1
        join 2
        submit 1
        planned 1: 1
        disconnect 2
        @2
        tick
        begun 1.0.0.0
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 1
            launch 1.0.0.0 on 2
            result of 1 at 1.0.0.0@2
        tick
            evict 2
            launch 1.0.0.1 on 1
            result of 1 at 1.0.0.1@1
        begun 1.0.0.0
            release 1 on 1
            end 1: Unavailable: part of the result had already been delivered when task 1.0.0.0 was lost; the query may be submitted again
        ",
    );
}

#[test]
fn reading_the_end_of_a_given_up_result_means_nothing() {
    check(
        "
        join 1
        join 2
        submit 1
        planned 1: 1
        disconnect 2
        @2
        tick
        fetched 1.0.0.0
        fetched 1.0.0.1
        finish 1.0.0.1
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 1
            launch 1.0.0.0 on 2
            result of 1 at 1.0.0.0@2
        tick
            evict 2
            launch 1.0.0.1 on 1
            result of 1 at 1.0.0.1@1
        finish 1.0.0.1
            release 1 on 1
            end 1: ok
        ",
    );
}

#[test]
fn an_unreadable_result_is_made_again() {
    check(
        "
        join 1
        submit 1
        planned 1: 1; 1 <- 0c
        finish 1.0.0.0
        finish 1.1.0.0
        unfetched 1.1.0.0
        unfetched 1.1.0.0
        unfetched 1.0.0.0
        beat 1
        fetched 1.1.0.1
        unfetched 1.1.0.1
        finish 1.1.0.1
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1; 1 <- 0c
            launch 1.0.0.0 on 1
        finish 1.0.0.0
            launch 1.1.0.0 on 1 < 1.0.0.0@1
            result of 1 at 1.1.0.0@1
        unfetched 1.1.0.0
            abort 1.1.0.0 on 1
        beat 1
            launch 1.1.0.1 on 1 < 1.0.0.0@1
            result of 1 at 1.1.0.1@1
        finish 1.1.0.1
            release 1 on 1
            end 1: ok
        ",
    );
}

#[test]
fn results_move_one_by_one() {
    check(
        "
        join 1
        join 2
        join 3
        submit 1
        planned 1: 2
        finish 1.0.0.0
        finish 1.0.1.0
        fetched 1.0.0.0
        disconnect 3
        @2
        tick
        ",
        "
        submit 1
            plan 1 on 1 2 3
        planned 1: 2
            launch 1.0.0.0 on 2
            launch 1.0.1.0 on 3
            result of 1 at 1.0.0.0@2 1.0.1.0@3
        tick
            evict 3
            launch 1.0.1.1 on 1
            result of 1 at 1.0.0.0@2 1.0.1.1@1
        ",
    );
}

#[test]
fn a_repeatable_result_goes_on_elsewhere() {
    check(
        "
        join 1
        join 2
        join 3
        submit 1
        planned 1: 1 repeatable
        begun 1.0.0.0
        disconnect 2
        @2
        tick
        begun 1.0.0.1
        unfetched 1.0.0.1
        beat 3
        beat 1
        finish 1.0.0.2
        fetched 1.0.0.2
        ",
        "
        submit 1
            plan 1 on 1 2 3
        planned 1: 1 repeatable
            launch 1.0.0.0 on 2
            result of 1 at 1.0.0.0@2
        tick
            evict 2
            launch 1.0.0.1 on 3
            result of 1 at 1.0.0.1@3
        unfetched 1.0.0.1
            abort 1.0.0.1 on 3
            launch 1.0.0.2 on 1
            result of 1 at 1.0.0.2@1
        fetched 1.0.0.2
            release 1 on 1
            release 1 on 3
            end 1: ok
        ",
    );
}

#[test]
fn a_repeatable_result_goes_on_also_if_its_reader_is_late() {
    check(
        "
        join 1
        join 2
        submit 1
        planned 1: 1 repeatable
        disconnect 2
        @2
        tick
        begun 1.0.0.0
        finish 1.0.0.1
        fetched 1.0.0.1
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 1 repeatable
            launch 1.0.0.0 on 2
            result of 1 at 1.0.0.0@2
        tick
            evict 2
            launch 1.0.0.1 on 1
            result of 1 at 1.0.0.1@1
        fetched 1.0.0.1
            release 1 on 1
            end 1: ok
        ",
    );
}
