//! What wasmtime's `bindgen!` makes of `wit/`: one host world with every import and every
//! handler. A component need not export them all: each exported interface is looked up by itself
//! (`GuestIndices`), because the kind of a plugin is the set of its exports.
//!
//! This module is the slow part of compiling the package and changes only with `wit/`.

#![allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated code")]
#![allow(clippy::missing_errors_doc, clippy::needless_pass_by_value, reason = "generated code")]

wasmtime::component::bindgen!({
    path: "../../wit",
    inline: "
        package gnomon:host;
        world plugin {
            include gnomon:plugin/imports@0.1.0;
            export gnomon:plugin/lifecycle@0.1.0;
            export gnomon:plugin/rule-action@0.1.0;
            export gnomon:plugin/rule-function@0.1.0;
            export gnomon:plugin/authorizer@0.1.0;
            export gnomon:plugin/enhanced-authorizer@0.1.0;
            export gnomon:plugin/http-handler@0.1.0;
            export gnomon:plugin/provisioning-hook@0.1.0;
        }
    ",
    world: "gnomon:host/plugin",
    imports: { default: async },
    exports: { default: async },
});

pub use exports::gnomon::plugin as guest;
pub use gnomon::plugin as host;
