//! Stages that give other rows, or put rows into other partitions, when they run again.

use super::check;

#[test]
fn all_that_read_any_of_it_starts_again() {
    check(
        "
        join 1 slots 4
        join 2 slots 4
        submit 1
        planned 1: 2 varying; 2 <- 0; 1 <- 1c
        finish 1.0.0.0
        finish 1.0.1.0
        read 1.1.0.0 1.0.0.0
        read 1.1.0.0 1.0.1.0
        finish 1.1.0.0
        fail 1.1.1.0 exchange 1.0.0.0
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 2 varying; 2 <- 0; 1 <- 1c
            launch 1.0.0.0 on 2
            launch 1.0.1.0 on 1
            launch 1.1.0.0 on 2 < 1.0.0.0@2 1.0.1.0@1
            launch 1.1.1.0 on 1 < 1.0.0.0@2 1.0.1.0@1
        fail 1.1.1.0 exchange 1.0.0.0
            abort 1.1.1.0 on 1
            abort 1.1.0.0 on 2
            abort 1.0.0.0 on 2
            launch 1.0.0.1 on 1
            launch 1.1.0.1 on 1 < 1.0.0.1@1 1.0.1.0@1
            launch 1.1.1.1 on 1 < 1.0.0.1@1 1.0.1.0@1
        ",
    );
}

#[test]
fn a_loss_that_nobody_notices_restarts_nothing() {
    check(
        "
        join 1 slots 4
        join 2 slots 1
        submit 1
        planned 1: 1 varying; 2 <- 0
        finish 1.0.0.0
        read 1.1.0.0 1.0.0.0
        read 1.1.1.0 1.0.0.0
        finish 1.1.0.0
        disconnect 2
        @2
        tick
        # Now the varying output is needed again, and so its finished reader counts no more.
        fail 1.1.1.0 unavailable
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 1 varying; 2 <- 0
            launch 1.0.0.0 on 2
            launch 1.1.0.0 on 1 < 1.0.0.0@2
            launch 1.1.1.0 on 1 < 1.0.0.0@2
            result of 1 at 1.1.0.0@1 1.1.1.0@1
        tick
            evict 2
        fail 1.1.1.0 unavailable
            abort 1.1.1.0 on 1
            abort 1.1.0.0 on 1
            launch 1.0.0.1 on 1
            launch 1.1.0.1 on 1 < 1.0.0.1@1
            launch 1.1.1.1 on 1 < 1.0.0.1@1
            result of 1 at 1.1.0.1@1 1.1.1.1@1
        ",
    );
}

#[test]
fn what_it_changes_varies_too() {
    check(
        "
        join 1 slots 8
        join 2 slots 1
        submit 1
        planned 1: 1 varying; 1 <- 0; 2 <- 1c
        drain 2
        finish 1.0.0.0
        read 1.1.0.0 1.0.0.0
        finish 1.1.0.0
        read 1.2.0.0 1.1.0.0
        finish 1.2.0.0
        disconnect 2
        fail 1.2.1.0 exchange 1.1.0.0
        beat 1
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 1 varying; 1 <- 0; 2 <- 1c
            launch 1.0.0.0 on 2
            launch 1.1.0.0 on 1 < 1.0.0.0@2
        finish 1.1.0.0
            launch 1.2.0.0 on 1 < 1.1.0.0@1
            launch 1.2.1.0 on 1 < 1.1.0.0@1
            result of 1 at 1.2.0.0@1 1.2.1.0@1
        disconnect 2
            evict 2
        fail 1.2.1.0 exchange 1.1.0.0
            abort 1.2.1.0 on 1
            abort 1.2.0.0 on 1
            abort 1.1.0.0 on 1
        beat 1
            launch 1.0.0.1 on 1
            launch 1.1.0.1 on 1 < 1.0.0.1@1
        ",
    );
}

#[test]
fn a_result_that_depends_on_it_cannot_be_told_again() {
    check(
        "
        join 1 slots 4
        join 2 slots 4
        submit 1
        planned 1: 1 varying; 2 <- 0
        read 1.1.0.0 1.0.0.0
        finish 1.1.0.0
        begun 1.1.0.0
        fail 1.0.0.0 internal
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 1 varying; 2 <- 0
            launch 1.0.0.0 on 2
            launch 1.1.0.0 on 2 < 1.0.0.0@2
            launch 1.1.1.0 on 1 < 1.0.0.0@2
            result of 1 at 1.1.0.0@2 1.1.1.0@1
        fail 1.0.0.0 internal
            release 1 on 1
            release 1 on 2
            end 1: Unavailable: part of the result had already been delivered when task 1.0.0.0 failed (internal); the query may be submitted again
        ",
    );
}

#[test]
fn what_depends_on_it_is_reproducible_while_it_is_there() {
    check(
        "
        join 1 slots 1
        join 2 slots 8
        submit 1
        planned 1: 1 varying; 1 <- 0c; 2 <- 1c; 1 <- 2c
        finish 1.0.0.0
        finish 1.1.0.0
        read 1.2.0.0 1.1.0.0
        finish 1.2.0.0
        fail 1.2.1.0 exchange 1.1.0.0
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 1 varying; 1 <- 0c; 2 <- 1c; 1 <- 2c
            launch 1.0.0.0 on 2
        finish 1.0.0.0
            launch 1.1.0.0 on 2 < 1.0.0.0@2
        finish 1.1.0.0
            launch 1.2.0.0 on 2 < 1.1.0.0@2
            launch 1.2.1.0 on 1 < 1.1.0.0@2
        fail 1.2.1.0 exchange 1.1.0.0
            abort 1.2.1.0 on 1
            abort 1.1.0.0 on 2
            launch 1.1.0.1 on 1 < 1.0.0.0@2
        ",
    );
}

#[test]
fn delivered_rows_that_do_not_depend_on_a_second_attempt_stay() {
    check(
        "
        join 1 slots 4
        join 2 slots 1
        submit 1
        planned 1: 1 varying; 1 <- 0
        finish 1.0.0.0
        read 1.1.0.0 1.0.0.0
        begun 1.1.0.0
        disconnect 2
        @2
        tick
        finish 1.1.0.0
        fetched 1.1.0.0
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 1 varying; 1 <- 0
            launch 1.0.0.0 on 2
            launch 1.1.0.0 on 1 < 1.0.0.0@2
            result of 1 at 1.1.0.0@1
        tick
            evict 2
        fetched 1.1.0.0
            release 1 on 1
            end 1: ok
        ",
    );
}

#[test]
fn a_result_without_rows_can_be_told_again() {
    check(
        "
        join 1 slots 4
        join 2 slots 1
        submit 1
        planned 1: 1 varying; 2 <- 0
        finish 1.0.0.0
        read 1.1.0.0 1.0.0.0
        fetched 1.1.0.0
        fail 1.1.1.0 exchange 1.0.0.0
        fetched 1.1.1.1
        finish 1.1.0.1
        finish 1.1.1.1
        begun 1.1.0.1
        fetched 1.1.0.1
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 1 varying; 2 <- 0
            launch 1.0.0.0 on 2
            launch 1.1.0.0 on 1 < 1.0.0.0@2
            launch 1.1.1.0 on 1 < 1.0.0.0@2
            result of 1 at 1.1.0.0@1 1.1.1.0@1
        fail 1.1.1.0 exchange 1.0.0.0
            abort 1.1.1.0 on 1
            abort 1.1.0.0 on 1
            abort 1.0.0.0 on 2
            launch 1.0.0.1 on 1
            launch 1.1.0.1 on 1 < 1.0.0.1@1
            launch 1.1.1.1 on 1 < 1.0.0.1@1
            result of 1 at 1.1.0.1@1 1.1.1.1@1
        finish 1.1.1.1
            adapted 1.0: stopped, since its consumers need no more rows
            abort 1.0.0.1 on 1
        fetched 1.1.0.1
            release 1 on 1
            release 1 on 2
            end 1: ok
        ",
    );
}
