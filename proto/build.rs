//! Generates the wire types. `protox` compiles the .proto files, so protoc is not needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["proto/control.proto", "proto/exchange.proto"], ["proto"])?;
    // These fields are `Bytes`, so all launches of a stage share one buffer without a copy.
    let shared = [".hwacha.control.StagePlan.plan", ".hwacha.control.RuntimeFilter.filter"];
    shared.into_iter().fold(tonic_prost_build::configure(), |config, path| config.bytes(path)).compile_fds(files)?;
    Ok(())
}
