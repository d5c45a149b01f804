//! What runs again after a loss, and what does not.

use super::check;

#[test]
fn a_lost_producer_takes_its_unfinished_readers_along() {
    check(
        "
        join 1 slots 2
        join 2 slots 2
        submit 1
        planned 1: 2; 2 <- 0
        start 1.0.0.0
        disconnect 1
        @2
        tick
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 2; 2 <- 0
            launch 1.0.0.0 on 2
            launch 1.0.1.0 on 1
            launch 1.1.0.0 on 2 < 1.0.0.0@2 1.0.1.0@1
            launch 1.1.1.0 on 1 < 1.0.0.0@2 1.0.1.0@1
            result of 1 at 1.1.0.0@2 1.1.1.0@1
        tick
            evict 1
            abort 1.1.0.0 on 2
            launch 1.0.1.1 on 2
        ",
    );
}

#[test]
fn readers_that_have_read_all_are_not_touched() {
    check(
        "
        join 1 slots 3
        join 2 slots 1
        submit 1
        planned 1: 1; 2 <- 0; 1 <- 1c
        finish 1.0.0.0
        read 1.1.0.0 1.0.0.0
        read 1.1.1.0 1.0.0.0
        disconnect 2
        @2
        tick
        finish 1.1.0.0
        finish 1.1.1.0
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 1; 2 <- 0; 1 <- 1c
            launch 1.0.0.0 on 2
            launch 1.1.0.0 on 1 < 1.0.0.0@2
            launch 1.1.1.0 on 1 < 1.0.0.0@2
        tick
            evict 2
        finish 1.1.1.0
            launch 1.2.0.0 on 1 < 1.1.0.0@1 1.1.1.0@1
            result of 1 at 1.2.0.0@1
        ",
    );
}

#[test]
fn lost_outputs_are_made_again_as_far_back_as_needed() {
    check(
        "
        join 1 slots 1
        join 2 slots 1
        submit 1
        planned 1: 2; 2 <- 0c; 2 <- 1c
        finish 1.0.0.0
        finish 1.0.1.0
        finish 1.1.0.0
        finish 1.1.1.0
        disconnect 2
        @2
        tick
        finish 1.0.0.1
        finish 1.1.0.1
        finish 1.2.0.1
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 2; 2 <- 0c; 2 <- 1c
            launch 1.0.0.0 on 2
            launch 1.0.1.0 on 1
        finish 1.0.1.0
            launch 1.1.0.0 on 2 < 1.0.0.0@2 1.0.1.0@1
            launch 1.1.1.0 on 1 < 1.0.0.0@2 1.0.1.0@1
        finish 1.1.1.0
            launch 1.2.0.0 on 2 < 1.1.0.0@2 1.1.1.0@1
            launch 1.2.1.0 on 1 < 1.1.0.0@2 1.1.1.0@1
            result of 1 at 1.2.0.0@2 1.2.1.0@1
        tick
            evict 2
            abort 1.2.1.0 on 1
            launch 1.0.0.1 on 1
        finish 1.0.0.1
            launch 1.1.0.1 on 1 < 1.0.0.1@1 1.0.1.0@1
        finish 1.1.0.1
            launch 1.2.0.1 on 1 < 1.1.0.1@1 1.1.1.0@1
            result of 1 at 1.2.0.1@1
        finish 1.2.0.1
            launch 1.2.1.1 on 1 < 1.1.0.1@1 1.1.1.0@1
            result of 1 at 1.2.0.1@1 1.2.1.1@1
        ",
    );
}

#[test]
fn a_reader_that_has_read_all_keeps_running_while_its_siblings_make_the_producer_run_again() {
    check(
        "
        join 1 slots 3
        join 2 slots 1
        submit 1
        planned 1: 2; 2 <- 0
        finish 1.0.0.0
        finish 1.0.1.0
        read 1.1.0.0 1.0.0.0
        read 1.1.0.0 1.0.1.0
        read 1.1.1.0 1.0.1.0
        disconnect 2
        @2
        tick
        finish 1.1.0.0
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 2; 2 <- 0
            launch 1.0.0.0 on 2
            launch 1.0.1.0 on 1
            launch 1.1.0.0 on 1 < 1.0.0.0@2 1.0.1.0@1
            launch 1.1.1.0 on 1 < 1.0.0.0@2 1.0.1.0@1
            result of 1 at 1.1.0.0@1 1.1.1.0@1
        tick
            evict 2
            abort 1.1.1.0 on 1
            launch 1.0.0.1 on 1
            launch 1.1.1.1 on 1 < 1.0.0.1@1 1.0.1.0@1
            result of 1 at 1.1.0.0@1 1.1.1.1@1
        ",
    );
}

#[test]
fn what_nobody_needs_any_more_stays_lost_until_somebody_does() {
    check(
        "
        join 1 slots 3
        join 2 slots 1
        submit 1
        planned 1: 1; 2 <- 0
        finish 1.0.0.0
        read 1.1.0.0 1.0.0.0
        read 1.1.1.0 1.0.0.0
        disconnect 2
        @2
        tick
        fail 1.1.1.0 unavailable
        finish 1.1.0.0
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 1; 2 <- 0
            launch 1.0.0.0 on 2
            launch 1.1.0.0 on 1 < 1.0.0.0@2
            launch 1.1.1.0 on 1 < 1.0.0.0@2
            result of 1 at 1.1.0.0@1 1.1.1.0@1
        tick
            evict 2
        fail 1.1.1.0 unavailable
            abort 1.1.1.0 on 1
            launch 1.0.0.1 on 1
            launch 1.1.1.1 on 1 < 1.0.0.1@1
            result of 1 at 1.1.0.0@1 1.1.1.1@1
        ",
    );
}

#[test]
fn a_failed_attempt_takes_its_streaming_readers_along() {
    check(
        "
        join 1 slots 4
        submit 1
        planned 1: 1; 1 <- 0; 1 <- 1
        fail 1.0.0.0 unavailable
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1; 1 <- 0; 1 <- 1
            launch 1.0.0.0 on 1
            launch 1.1.0.0 on 1 < 1.0.0.0@1
            launch 1.2.0.0 on 1 < 1.1.0.0@1
            result of 1 at 1.2.0.0@1
        fail 1.0.0.0 unavailable
            abort 1.2.0.0 on 1
            abort 1.1.0.0 on 1
            abort 1.0.0.0 on 1
            launch 1.0.0.1 on 1
            launch 1.1.0.1 on 1 < 1.0.0.1@1
            launch 1.2.0.1 on 1 < 1.1.0.1@1
            result of 1 at 1.2.0.1@1
        ",
    );
}

#[test]
fn a_reader_waiting_for_a_slot_needs_what_is_lost() {
    check(
        "
        join 1 slots 1
        join 2 slots 1
        submit 1
        planned 1: 1; 3 <- 0c
        finish 1.0.0.0
        read 1.1.0.0 1.0.0.0
        read 1.1.1.0 1.0.0.0
        disconnect 2
        @2
        tick
        finish 1.1.0.0
        finish 1.1.1.0
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 1; 3 <- 0c
            launch 1.0.0.0 on 2
        finish 1.0.0.0
            launch 1.1.0.0 on 2 < 1.0.0.0@2
            launch 1.1.1.0 on 1 < 1.0.0.0@2
            result of 1 at 1.1.0.0@2 1.1.1.0@1
        tick
            evict 2
        finish 1.1.1.0
            launch 1.0.0.1 on 1
            result of 1 at 1.1.1.0@1
        ",
    );
}
