//! What wit-bindgen makes of `wit/`: the imports once, and one module per exported interface, so
//! that a component exports only what its `export!` names. The worlds have names of their own because
//! the macros that wit-bindgen makes are called after them.

#![allow(unsafe_code, missing_docs, clippy::all, clippy::pedantic, reason = "generated code")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "generated code")]
#![allow(clippy::cast_possible_wrap, clippy::missing_errors_doc, reason = "generated code")]
#![allow(clippy::panic, clippy::unwrap_used, rust_2018_idioms, reason = "generated code")]

pub use wit_bindgen;

pub mod imports {
    wit_bindgen::generate!({
        path: "../wit",
        world: "gnomon:plugin/imports",
        generate_all,
        generate_unused_types: true,
        additional_derives: [Clone, PartialEq],
    });
}

pub mod lifecycle {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "package gnomon:sdk-lifecycle; world exports-lifecycle { export gnomon:plugin/lifecycle@0.1.0; }",
        world: "gnomon:sdk-lifecycle/exports-lifecycle",
        pub_export_macro: true,
        export_macro_name: "__export_lifecycle",
        default_bindings_module: "::gnomon_sdk::bindings::lifecycle",
        runtime_path: "::gnomon_sdk::bindings::wit_bindgen::rt",
    });
}

pub mod rule_action {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "package gnomon:sdk-rule-action; world exports-rule-action { export gnomon:plugin/rule-action@0.1.0; }",
        world: "gnomon:sdk-rule-action/exports-rule-action",
        with: { "gnomon:plugin/types@0.1.0": super::imports::gnomon::plugin::types },
        additional_derives: [Clone, PartialEq],
        pub_export_macro: true,
        export_macro_name: "__export_rule_action",
        default_bindings_module: "::gnomon_sdk::bindings::rule_action",
        runtime_path: "::gnomon_sdk::bindings::wit_bindgen::rt",
    });
}

pub mod rule_function {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "package gnomon:sdk-rule-function; world exports-rule-function { export gnomon:plugin/rule-function@0.1.0; }",
        world: "gnomon:sdk-rule-function/exports-rule-function",
        with: { "gnomon:plugin/types@0.1.0": super::imports::gnomon::plugin::types },
        additional_derives: [Clone, PartialEq],
        pub_export_macro: true,
        export_macro_name: "__export_rule_function",
        default_bindings_module: "::gnomon_sdk::bindings::rule_function",
        runtime_path: "::gnomon_sdk::bindings::wit_bindgen::rt",
    });
}

pub mod authorizer {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "package gnomon:sdk-authorizer; world exports-authorizer { export gnomon:plugin/authorizer@0.1.0; }",
        world: "gnomon:sdk-authorizer/exports-authorizer",
        with: { "gnomon:plugin/types@0.1.0": super::imports::gnomon::plugin::types },
        additional_derives: [Clone, PartialEq],
        pub_export_macro: true,
        export_macro_name: "__export_authorizer",
        default_bindings_module: "::gnomon_sdk::bindings::authorizer",
        runtime_path: "::gnomon_sdk::bindings::wit_bindgen::rt",
    });
}

pub mod enhanced_authorizer {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "package gnomon:sdk-enhanced-authorizer; world exports-enhanced-authorizer { export gnomon:plugin/enhanced-authorizer@0.1.0; }",
        world: "gnomon:sdk-enhanced-authorizer/exports-enhanced-authorizer",
        with: { "gnomon:plugin/types@0.1.0": super::imports::gnomon::plugin::types },
        additional_derives: [Clone, PartialEq],
        pub_export_macro: true,
        export_macro_name: "__export_enhanced_authorizer",
        default_bindings_module: "::gnomon_sdk::bindings::enhanced_authorizer",
        runtime_path: "::gnomon_sdk::bindings::wit_bindgen::rt",
    });
}

pub mod http_handler {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "package gnomon:sdk-http-handler; world exports-http-handler { export gnomon:plugin/http-handler@0.1.0; }",
        world: "gnomon:sdk-http-handler/exports-http-handler",
        with: {
            "gnomon:plugin/types@0.1.0": super::imports::gnomon::plugin::types,
            "gnomon:plugin/http@0.1.0": super::imports::gnomon::plugin::http,
        },
        additional_derives: [Clone, PartialEq],
        pub_export_macro: true,
        export_macro_name: "__export_http_handler",
        default_bindings_module: "::gnomon_sdk::bindings::http_handler",
        runtime_path: "::gnomon_sdk::bindings::wit_bindgen::rt",
    });
}

pub mod provisioning_hook {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "package gnomon:sdk-provisioning-hook; world exports-provisioning-hook { export gnomon:plugin/provisioning-hook@0.1.0; }",
        world: "gnomon:sdk-provisioning-hook/exports-provisioning-hook",
        additional_derives: [Clone, PartialEq],
        pub_export_macro: true,
        export_macro_name: "__export_provisioning_hook",
        default_bindings_module: "::gnomon_sdk::bindings::provisioning_hook",
        runtime_path: "::gnomon_sdk::bindings::wit_bindgen::rt",
    });
}
