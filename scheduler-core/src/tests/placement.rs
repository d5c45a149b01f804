//! When tasks are launched, and where.

use super::check;

#[test]
fn streaming_consumers_start_with_their_producers() {
    check(
        "
        join 1 slots 3
        join 2 slots 3
        submit 1
        planned 1: 2; 2 <- 0; 1 <- 1
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 2; 2 <- 0; 1 <- 1
            launch 1.0.0.0 on 2
            launch 1.0.1.0 on 1
            launch 1.1.0.0 on 2 < 1.0.0.0@2 1.0.1.0@1
            launch 1.1.1.0 on 1 < 1.0.0.0@2 1.0.1.0@1
            launch 1.2.0.0 on 2 < 1.1.0.0@2 1.1.1.0@1
            result of 1 at 1.2.0.0@2
        ",
    );
}

#[test]
fn complete_inputs_are_waited_for() {
    check(
        "
        join 1 slots 3
        submit 1
        planned 1: 2; 1 <- 0c
        finish 1.0.0.0
        finish 1.0.1.0
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 2; 1 <- 0c
            launch 1.0.0.0 on 1
            launch 1.0.1.0 on 1
        finish 1.0.1.0
            launch 1.1.0.0 on 1 < 1.0.0.0@1 1.0.1.0@1
            result of 1 at 1.1.0.0@1
        ",
    );
}

#[test]
fn what_a_stage_waits_for_is_not_read() {
    check(
        "
        join 1 slots 4
        submit 1
        planned 1: 1; 1 <- 0w; 1 <- 0 1
        finish 1.0.0.0
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1; 1 <- 0w; 1 <- 0 1
            launch 1.0.0.0 on 1
        finish 1.0.0.0
            launch 1.1.0.0 on 1
            launch 1.2.0.0 on 1 < 1.0.0.0@1 < 1.1.0.0@1
            result of 1 at 1.2.0.0@1
        ",
    );
}

#[test]
fn what_has_finished_once_is_not_waited_for_again() {
    check(
        "
        join 1 slots 4
        submit 1
        planned 1: 1; 1 <- 0w; 1 <- 0 1
        join 2 slots 2
        finish 1.0.0.0
        read 1.2.0.0 1.0.0.0
        disconnect 1
        @2
        tick
        join 3 slots 2
        fail 1.1.0.0 internal
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1; 1 <- 0w; 1 <- 0 1
            launch 1.0.0.0 on 1
        finish 1.0.0.0
            launch 1.1.0.0 on 2
            launch 1.2.0.0 on 2 < 1.0.0.0@1 < 1.1.0.0@2
            result of 1 at 1.2.0.0@2
        tick
            evict 1
        fail 1.1.0.0 internal
            abort 1.2.0.0 on 2
            abort 1.1.0.0 on 2
            launch 1.0.0.1 on 3
            launch 1.1.0.1 on 3
            launch 1.2.0.1 on 2 < 1.0.0.1@3 < 1.1.0.1@3
            result of 1 at 1.2.0.1@2
        ",
    );
}

#[test]
fn a_streaming_consumer_waits_until_every_producer_has_a_slot() {
    check(
        "
        join 1 slots 2
        submit 1
        planned 1: 3; 1 <- 0
        finish 1.0.1.0
        finish 1.0.0.0
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 3; 1 <- 0
            launch 1.0.0.0 on 1
            launch 1.0.1.0 on 1
        finish 1.0.1.0
            launch 1.0.2.0 on 1
        finish 1.0.0.0
            launch 1.1.0.0 on 1 < 1.0.0.0@1 1.0.1.0@1 1.0.2.0@1
            result of 1 at 1.1.0.0@1
        ",
    );
}

#[test]
fn older_queries_come_first() {
    check(
        "
        join 1 slots 1
        submit 1
        submit 2
        planned 2: 1
        planned 1: 2
        finish 2.0.0.0
        finish 1.0.0.0
        ",
        "
        submit 1
            plan 1 on 1
        submit 2
            plan 2 on 1
        planned 2: 1
            launch 2.0.0.0 on 1
            result of 2 at 2.0.0.0@1
        finish 2.0.0.0
            launch 1.0.0.0 on 1
            result of 1 at 1.0.0.0@1
        finish 1.0.0.0
            launch 1.0.1.0 on 1
            result of 1 at 1.0.0.0@1 1.0.1.0@1
        ",
    );
}

#[test]
fn an_executor_without_slots_is_of_no_use() {
    check(
        "
        join 1 slots 0
        submit 1
        join 2 slots 1
        ",
        "
        join 2 slots 1
            plan 1 on 2
        ",
    );
}
