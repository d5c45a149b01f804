//! Generates the wire types; `protox` compiles the .proto files, so that no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["proto/control.proto", "proto/exchange.proto"], ["proto"])?;
    // Plan bytes pass through as `Bytes`: one plan is shared by all launches of a stage without a copy.
    tonic_prost_build::configure().bytes(".hwacha.control.StagePlan.plan").compile_fds(files)?;
    Ok(())
}
