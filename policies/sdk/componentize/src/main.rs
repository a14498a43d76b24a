//! `componentize CORE.wasm COMPONENT.wasm`: makes a component of a core module like `wasm-tools component new`, with the
//! pinned crate.

use std::env;
use std::fs;

use anyhow::{Context, Result, bail};
use wit_component::ComponentEncoder;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [core, component] = arguments.as_slice() else {
        bail!("usage: componentize CORE.wasm COMPONENT.wasm");
    };
    let module = fs::read(core).with_context(|| format!("reading {core}"))?;
    let bytes = ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|mut encoder| encoder.encode())
        .with_context(|| format!("{core} does not become a component"))?;
    fs::write(component, bytes).with_context(|| format!("writing {component}"))
}
