//! Builds the programs in the kernel, for the feature `kernel`.

#[cfg(feature = "kernel")]
#[path = "build/programs.rs"]
mod programs;

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "kernel")]
    programs::build()?;
    Ok(())
}
