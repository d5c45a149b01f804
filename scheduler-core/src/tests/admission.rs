//! Which queries run, wait and are refused.

use super::check;

#[test]
fn a_query_waits_for_an_executor_and_then_runs_to_its_end() {
    check(
        "
        submit 1
        status 1
        join 7 slots 2
        join 3 slots 2
        planned 1: 1
        start 1.0.0.0
        status 1
        finish 1.0.0.0
        begun 1.0.0.0
        status 1
        fetched 1.0.0.0
        status 1
        ",
        "
        status 1: Some(QueryStatus { state: Queued, waiting_for_executors: true, stages: [] })
        join 7 slots 2
            plan 1 on 7
        planned 1: 1
            launch 1.0.0.0 on 7
            result of 1 at 1.0.0.0@7
        status 1: Some(QueryStatus { state: Running, waiting_for_executors: false, stages: [StageStatus { tasks: 1, running: 1, finished: 0, output_rows: 0, output_bytes: 0 }] })
        status 1: Some(QueryStatus { state: Running, waiting_for_executors: false, stages: [StageStatus { tasks: 1, running: 0, finished: 1, output_rows: 10, output_bytes: 80 }] })
        fetched 1.0.0.0
            release 1 on 7
            end 1: ok
        status 1: None
        ",
    );
}

#[test]
fn a_query_fails_when_no_executor_comes() {
    check(
        "
        @5
        submit 1
        @34
        tick
        @35
        tick
        ",
        "
        tick
            end 1: Unavailable: no executor has been connected for 30 s; start one with `hwacha executor --scheduler URL`, then submit the query again
        ",
    );
}

#[test]
fn a_running_query_fails_when_all_executors_have_left_for_long() {
    check(
        "
        join 1
        submit 1
        planned 1: 2
        disconnect 1
        @2
        tick
        @29.9
        tick
        @30
        tick
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 2
            launch 1.0.0.0 on 1
            result of 1 at 1.0.0.0@1
        tick
            evict 1
        tick
            end 1: Unavailable: no executor has been connected for 30 s; start one with `hwacha executor --scheduler URL`, then submit the query again
        ",
    );
}

#[test]
fn more_queries_than_may_wait_are_refused() {
    check(
        "
        config max_running=1 max_queued=1
        join 1
        submit 1
        submit 2
        submit 3
        ",
        "
        submit 1
            plan 1 on 1
        submit 3
            end 3: ResourcesExhausted: too many queries are waiting (the limit is 1); try again later
        ",
    );
}

#[test]
fn a_queue_of_no_length_still_lets_queries_run() {
    check(
        "
        config max_running=1 max_queued=0
        join 1
        submit 1
        submit 2
        ",
        "
        submit 1
            plan 1 on 1
        submit 2
            end 2: ResourcesExhausted: too many queries are waiting (the limit is 0); try again later
        ",
    );
}

#[test]
fn sessions_take_turns() {
    check(
        "
        config max_running=2
        join 1
        submit 1 session 8
        submit 2 session 8
        submit 3 session 8
        submit 4 session 9
        planfailed 1
        planfailed 2
        cancel 4
        ",
        "
        submit 1 session 8
            plan 1 on 1
        submit 2 session 8
            plan 2 on 1
        planfailed 1
            end 1: UserError: user
            plan 4 on 1
        planfailed 2
            end 2: UserError: user
            plan 3 on 1
        cancel 4
            end 4: Canceled: canceled
        ",
    );
}

#[test]
fn what_is_said_twice_counts_once() {
    check(
        "
        join 1
        submit 1
        submit 1
        planned 1: 1
        planned 1: 2
        planfailed 1
        submit 1
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1
            launch 1.0.0.0 on 1
            result of 1 at 1.0.0.0@1
        ",
    );
}

#[test]
fn a_query_can_be_canceled_in_every_state() {
    check(
        "
        submit 1
        cancel 1
        join 1
        submit 2
        cancel 2
        planned 2: 1
        submit 3
        planned 3: 1
        cancel 3
        cancel 3
        start 3.0.0.0
        ",
        "
        cancel 1
            end 1: Canceled: canceled
        submit 2
            plan 2 on 1
        cancel 2
            end 2: Canceled: canceled
        submit 3
            plan 3 on 1
        planned 3: 1
            launch 3.0.0.0 on 1
            result of 3 at 3.0.0.0@1
        cancel 3
            release 3 on 1
            end 3: Canceled: canceled
        ",
    );
}

#[test]
fn the_end_of_a_query_makes_room_at_once() {
    check(
        "
        config max_running=1
        join 1
        submit 1
        submit 2
        planned 1: 1
        finish 1.0.0.0
        fetched 1.0.0.0
        planned 2: 1
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1
            launch 1.0.0.0 on 1
            result of 1 at 1.0.0.0@1
        fetched 1.0.0.0
            release 1 on 1
            end 1: ok
            plan 2 on 1
        planned 2: 1
            launch 2.0.0.0 on 1
            result of 2 at 2.0.0.0@1
        ",
    );
}

#[test]
fn a_client_that_takes_no_rows_stops_nobody_else() {
    check(
        "
        config max_running=1
        join 1 slots 1
        submit 1
        submit 2
        planned 1: 1
        start 1.0.0.0
        begun 1.0.0.0
        stalled 1
        planned 2: 1
        finish 2.0.0.0
        fetched 2.0.0.0
        finish 1.0.0.0
        fetched 1.0.0.0
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1
            launch 1.0.0.0 on 1
            result of 1 at 1.0.0.0@1
        stalled 1
            plan 2 on 1
        planned 2: 1
            launch 2.0.0.0 on 1
            result of 2 at 2.0.0.0@1
        fetched 2.0.0.0
            release 2 on 1
            end 2: ok
        fetched 1.0.0.0
            release 1 on 1
            end 1: ok
        ",
    );
}
