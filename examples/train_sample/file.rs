//! Writes the network's file.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::sample::{Info, Network};

/// The bytes of a safetensors file. The header is put together here because
/// the safetensors crate keeps metadata in a hash map, whose order changes
/// from run to run.
pub(crate) fn encode(info: &Info, network: &Network) -> Vec<u8> {
    // Keys are inserted in alphabetical order: a JSON map keeps either that
    // or the order of insertion, depending on a feature of serde_json.
    let metadata: Map<String, Value> =
        info.entries().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let mut header = Map::from_iter([("__metadata__".to_owned(), metadata.into())]);
    let mut tensors: Vec<_> = network.tensors().iter().collect();
    tensors.sort_by_key(|(name, _)| name);
    let mut data = Vec::new();
    for (name, tensor) in tensors {
        let start = data.len();
        data.extend(tensor.iter().flat_map(|value| value.to_le_bytes()));
        let entry = json!({
            "data_offsets": [start, data.len()],
            "dtype": "F32",
            "shape": tensor.shape(),
        });
        header.insert(name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    // Spaces, so that the values start at a multiple of eight bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(data);
    bytes
}

/// Replaces a file by new contents, or leaves it as it was: the contents are
/// written beside it and renamed once they are complete.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name =
        path.file_name().with_context(|| format!("{} does not name a file", path.display()))?.to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().map_err(|error| {
        // Best effort: the error worth telling is the first one.
        let _ = fs::remove_file(&partial);
        anyhow::Error::new(error).context(format!("cannot write {}", path.display()))
    })
}
