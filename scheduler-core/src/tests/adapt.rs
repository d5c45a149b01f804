//! Stages that change, are skipped or are stopped when the sizes of their inputs are known.

use super::check;

#[test]
fn fewer_tasks_share_little_work() {
    check(
        "
        join 1 slots 4
        join 2 slots 4
        submit 1
        planned 1: 2; 8 per=100 <- 0c; 1 <- 1
        finish 1.0.0.0 bytes 150
        finish 1.0.1.0 bytes 51
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 2; 8 per=100 <- 0c; 1 <- 1
            launch 1.0.0.0 on 2
            launch 1.0.1.0 on 1
        finish 1.0.1.0 bytes 51
            adapted 1.1: 3 of 8 tasks, since its inputs have 201 bytes
            launch 1.1.0.0 on 2 < 1.0.0.0@2 1.0.1.0@1
            launch 1.1.1.0 on 1 < 1.0.0.0@2 1.0.1.0@1
            launch 1.1.2.0 on 2 < 1.0.0.0@2 1.0.1.0@1
            launch 1.2.0.0 on 2 < 1.1.0.0@2 1.1.1.0@1 1.1.2.0@2
            result of 1 at 1.2.0.0@2
        ",
    );
}

#[test]
fn a_lost_task_is_run_again_among_as_many() {
    check(
        "
        join 1 slots 4
        join 2 slots 4
        submit 1
        planned 1: 1; 4 per=100 <- 0c; 1 <- 1
        finish 1.0.0.0 bytes 200
        disconnect 1
        @2
        tick
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 1; 4 per=100 <- 0c; 1 <- 1
            launch 1.0.0.0 on 2
        finish 1.0.0.0 bytes 200
            adapted 1.1: 2 of 4 tasks, since its inputs have 200 bytes
            launch 1.1.0.0 on 2 < 1.0.0.0@2
            launch 1.1.1.0 on 1 < 1.0.0.0@2
            launch 1.2.0.0 on 2 < 1.1.0.0@2 1.1.1.0@1
            result of 1 at 1.2.0.0@2
        tick
            evict 1
            abort 1.2.0.0 on 2
            launch 1.1.1.1 on 2 < 1.0.0.0@2
            launch 1.2.0.1 on 2 < 1.1.0.0@2 1.1.1.1@2
            result of 1 at 1.2.0.1@2
        ",
    );
}

#[test]
fn a_stage_whose_inputs_run_is_not_shrunk() {
    check(
        "
        join 1 slots 4
        submit 1
        planned 1: 1; 2 per=100 <- 0
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1; 2 per=100 <- 0
            launch 1.0.0.0 on 1
            launch 1.1.0.0 on 1 < 1.0.0.0@1
            launch 1.1.1.0 on 1 < 1.0.0.0@1
            result of 1 at 1.1.0.0@1 1.1.1.0@1
        ",
    );
}

#[test]
fn a_small_build_side_is_read_whole() {
    check(
        "
        join 1 slots 4
        join 2 slots 4
        submit 1
        planned 1: 2; 2 <- 0w; 2 per=1 join=0,1,500 <- 0 1; 1 <- 2
        finish 1.0.0.0 bytes 200
        finish 1.0.1.0 bytes 300
        fail 1.1.0.0 unavailable
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 2; 2 <- 0w; 2 per=1 join=0,1,500 <- 0 1; 1 <- 2
            launch 1.0.0.0 on 2
            launch 1.0.1.0 on 1
        finish 1.0.1.0 bytes 300
            adapted 1.2: each task reads the whole build side, since stage 0 has only 500 bytes
            adapted 1.1: rows are not hashed, since each task of stage 2 reads the whole build side
            launch 1.1.0.0 on 2 unhashed
            launch 1.1.1.0 on 1 unhashed
            launch 1.2.0.0 on 2 < all of 1.0.0.0@2 1.0.1.0@1 < 1.1.0.0@2 1.1.1.0@1
            launch 1.2.1.0 on 1 < all of 1.0.0.0@2 1.0.1.0@1 < 1.1.0.0@2 1.1.1.0@1
            launch 1.3.0.0 on 2 < 1.2.0.0@2 1.2.1.0@1
            result of 1 at 1.3.0.0@2
        fail 1.1.0.0 unavailable
            abort 1.3.0.0 on 2
            abort 1.2.1.0 on 1
            abort 1.2.0.0 on 2
            abort 1.1.0.0 on 2
            launch 1.1.0.1 on 1 unhashed
            launch 1.2.0.1 on 2 < all of 1.0.0.0@2 1.0.1.0@1 < 1.1.0.1@1 1.1.1.0@1
            launch 1.2.1.1 on 1 < all of 1.0.0.0@2 1.0.1.0@1 < 1.1.0.1@1 1.1.1.0@1
            launch 1.3.0.1 on 2 < 1.2.0.1@2 1.2.1.1@1
            result of 1 at 1.3.0.1@2
        ",
    );
}

#[test]
fn a_large_build_side_is_not() {
    check(
        "
        join 1 slots 4
        submit 1
        planned 1: 1; 1 <- 0w; 1 join=0,1,500 <- 0 1
        finish 1.0.0.0 bytes 501
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1; 1 <- 0w; 1 join=0,1,500 <- 0 1
            launch 1.0.0.0 on 1
        finish 1.0.0.0 bytes 501
            launch 1.1.0.0 on 1
            launch 1.2.0.0 on 1 < 1.0.0.0@1 < 1.1.0.0@1
            result of 1 at 1.2.0.0@1
        ",
    );
}

#[test]
fn what_can_have_no_rows_is_not_run_nor_what_it_alone_reads() {
    check(
        "
        join 1 slots 4
        submit 1
        planned 1: 2; 2 <- 0w; 2; 2 <- 0v 1v 2v; 1 <- 3
        finish 1.0.0.0 rows 0
        finish 1.0.1.0 rows 0
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 2; 2 <- 0w; 2; 2 <- 0v 1v 2v; 1 <- 3
            launch 1.0.0.0 on 1
            launch 1.0.1.0 on 1
            launch 1.2.0.0 on 1
            launch 1.2.1.0 on 1
        finish 1.0.1.0 rows 0
            adapted 1.3: not run, since stage 0 has no rows
            adapted 1.2: stopped, since its consumers need no more rows
            adapted 1.1: not run, since nothing reads it
            abort 1.2.0.0 on 1
            abort 1.2.1.0 on 1
            launch 1.4.0.0 on 1 < 
            result of 1 at 1.4.0.0@1
        ",
    );
}

#[test]
fn rows_that_may_come_the_next_time_are_waited_for() {
    check(
        "
        join 1 slots 4
        submit 1
        planned 1: 1 varying; 1 <- 0cv; 1 <- 1
        finish 1.0.0.0 rows 0
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1 varying; 1 <- 0cv; 1 <- 1
            launch 1.0.0.0 on 1
        finish 1.0.0.0 rows 0
            launch 1.1.0.0 on 1 < 1.0.0.0@1
            launch 1.2.0.0 on 1 < 1.1.0.0@1
            result of 1 at 1.2.0.0@1
        ",
    );
}

#[test]
fn producers_stop_when_their_readers_have_enough() {
    check(
        "
        join 1 slots 4
        submit 1
        planned 1: 2; 1 varying <- 0; 1 <- 1
        read 1.1.0.0 1.0.1.0
        finish 1.1.0.0
        finish 1.0.1.0
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 2; 1 varying <- 0; 1 <- 1
            launch 1.0.0.0 on 1
            launch 1.0.1.0 on 1
            launch 1.1.0.0 on 1 < 1.0.0.0@1 1.0.1.0@1
            launch 1.2.0.0 on 1 < 1.1.0.0@1
            result of 1 at 1.2.0.0@1
        finish 1.1.0.0
            adapted 1.0: stopped, since its consumers need no more rows
            abort 1.0.0.0 on 1
        ",
    );
}

#[test]
fn heavy_partitions_are_shared_by_all_tasks() {
    check(
        "
        join 1 slots 4
        join 2 slots 4
        submit 1
        planned 1: 2; 2; 2 per=1 split=0,1,4,300 <- 0c 1c; 1 <- 2
        finish 1.0.0.0 bytes 200 heavy=3:80
        finish 1.0.1.0 bytes 200
        finish 1.1.0.0 bytes 500 heavy=0:200 heavy=3:250
        finish 1.1.1.0 bytes 500 heavy=3:200
        fail 1.2.0.0 unavailable
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 2; 2; 2 per=1 split=0,1,4,300 <- 0c 1c; 1 <- 2
            launch 1.0.0.0 on 2
            launch 1.0.1.0 on 1
            launch 1.1.0.0 on 2
            launch 1.1.1.0 on 1
        finish 1.1.1.0 bytes 500 heavy=3:200
            adapted 1.2: all tasks share 1 large partition of the probe side, which has 450 of the 1000 bytes of stage 1
            launch 1.2.0.0 on 2 < all 3 of 1.0.0.0@2 1.0.1.0@1 < part of 3 of 1.1.0.0@2 1.1.1.0@1
            launch 1.2.1.0 on 1 < all 3 of 1.0.0.0@2 1.0.1.0@1 < part of 3 of 1.1.0.0@2 1.1.1.0@1
            launch 1.3.0.0 on 2 < 1.2.0.0@2 1.2.1.0@1
            result of 1 at 1.3.0.0@2
        fail 1.2.0.0 unavailable
            abort 1.3.0.0 on 2
            abort 1.2.0.0 on 2
            launch 1.2.0.1 on 1 < all 3 of 1.0.0.0@2 1.0.1.0@1 < part of 3 of 1.1.0.0@2 1.1.1.0@1
            launch 1.3.0.1 on 2 < 1.2.0.1@1 1.2.1.0@1
            result of 1 at 1.3.0.1@2
        ",
    );
}

#[test]
fn partitions_are_not_shared_that_are_small_or_cost_more_to_copy() {
    check(
        "
        join 1 slots 4
        submit 1
        planned 1: 2; 2; 2 split=0,1,4,300 <- 0c 1c; 1 <- 2
        finish 1.0.0.0 bytes 600
        finish 1.0.1.0 bytes 600 heavy=2:210
        finish 1.1.0.0 bytes 400 heavy=2:400
        finish 1.1.1.0 bytes 299 heavy=3:299
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 2; 2; 2 split=0,1,4,300 <- 0c 1c; 1 <- 2
            launch 1.0.0.0 on 1
            launch 1.0.1.0 on 1
            launch 1.1.0.0 on 1
            launch 1.1.1.0 on 1
        finish 1.1.1.0 bytes 299 heavy=3:299
            launch 1.2.0.0 on 1 < 1.0.0.0@1 1.0.1.0@1 < 1.1.0.0@1 1.1.1.0@1
            launch 1.2.1.0 on 1 < 1.0.0.0@1 1.0.1.0@1 < 1.1.0.0@1 1.1.1.0@1
            launch 1.3.0.0 on 1 < 1.2.0.0@1 1.2.1.0@1
            result of 1 at 1.3.0.0@1
        ",
    );
}
