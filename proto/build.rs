//! Compiles the .proto files without protoc: protox makes the descriptor set, tonic-prost-build the messages and
//! services, pbjson-build their canonical JSON.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const FILES: &[&str] = &[
    "windlass/api/v1/common.proto",
    "windlass/api/v1/operations.proto",
    "windlass/api/v1/projects.proto",
    "windlass/api/v1/instances.proto",
    "windlass/api/v1/objects.proto",
    "windlass/api/v1/hosts.proto",
    "windlass/api/v1/proxies.proto",
    "windlass/api/v1/keys.proto",
    "windlass/api/v1/events.proto",
    "windlass/agent/v1/agent.proto",
    "windlass/agent/v1/replication.proto",
    "windlass/agent/v1/peer.proto",
    "windlass/proxy/v1/proxy.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let bytes = descriptors.encode_to_vec();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), &bytes)?;
    tonic_prost_build::configure()
        .extern_path(".google.protobuf.Timestamp", "::pbjson_types::Timestamp")
        .extern_path(".google.protobuf.Duration", "::pbjson_types::Duration")
        .extern_path(".google.protobuf.FieldMask", "::pbjson_types::FieldMask")
        .btree_map(".")
        .compile_fds(descriptors)?;
    pbjson_build::Builder::new()
        .register_descriptors(&bytes)?
        .extern_path(".google.protobuf.Timestamp", "::pbjson_types::Timestamp")
        .extern_path(".google.protobuf.Duration", "::pbjson_types::Duration")
        .extern_path(".google.protobuf.FieldMask", "::pbjson_types::FieldMask")
        .btree_map(["."])
        .preserve_proto_field_names()
        .build(&[".windlass"])?;
    Ok(())
}
