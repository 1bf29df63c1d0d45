//! Between the generated bindings and the traits; called by [`crate::export!`] only.

use crate::bindings::rule_action::exports::gnomon::plugin::rule_action as wit;
use crate::bindings::rule_function::exports::gnomon::plugin::rule_function;
use crate::{
    ActionContext, Failure, Level, Message, Plugin, RuleAction, RuleFunction, Value, host,
};
use std::cell::RefCell;

/// Where a component keeps its only plugin.
pub type Slot<T> = RefCell<Option<T>>;

/// `lifecycle.init`.
///
/// # Errors
/// The configuration does not parse, or the plugin refuses it.
pub fn init<T: Plugin>(slot: &Slot<T>, config: &str) -> Result<(), String> {
    // Without it a panic is a bare `unreachable` to the operator.
    std::panic::set_hook(Box::new(|panic| host::log(Level::Error, &panic.to_string(), &[])));
    let config = serde_json::from_str(config).map_err(|e| format!("configuration: {e}"))?;
    *slot.borrow_mut() = Some(T::new(config)?);
    Ok(())
}

/// Calls a handler of the plugin that [`init`] made.
///
/// # Errors
/// The handler's own, or that `init` was not called.
pub fn call<T, R>(
    slot: &Slot<T>,
    handler: impl FnOnce(&mut T) -> Result<R, String>,
) -> Result<R, String> {
    match &mut *slot.borrow_mut() {
        Some(plugin) => handler(plugin),
        None => Err("the host called a handler before init".into()),
    }
}

/// `rule-action.invoke`.
///
/// # Errors
/// As the plugin's [`RuleAction::invoke`].
pub fn invoke<T: RuleAction>(
    slot: &Slot<T>,
    context: wit::ActionContext,
    messages: &[Message],
) -> Result<Vec<Failure>, String> {
    let wit::ActionContext { rule, action, params, is_error_action } = context;
    let params = match serde_json::from_str(&params) {
        Ok(params) => params,
        // Trying again cannot help: the rule has to be changed.
        Err(e) => return Ok(fail_all(messages.len(), &format!("action parameters: {e}"))),
    };
    let context = ActionContext { rule, action, params, is_error_action };
    call(slot, |plugin| plugin.invoke(&context, messages))
}

/// `rule-function.functions`.
pub fn functions<T: RuleFunction>(_: &Slot<T>) -> Vec<rule_function::Declaration> {
    let declare = |(name, arguments): &(&str, std::ops::RangeInclusive<u32>)| {
        let (min, max) = (*arguments.start(), *arguments.end());
        rule_function::Declaration {
            name: (*name).into(),
            min_arguments: min,
            max_arguments: (max < u32::MAX).then_some(max),
        }
    };
    T::FUNCTIONS.iter().map(declare).collect()
}

/// `rule-function.call`.
///
/// # Errors
/// As the plugin's [`RuleFunction::call`].
pub fn call_function<T: RuleFunction>(
    slot: &Slot<T>,
    name: &str,
    arguments: Vec<rule_function::Value>,
) -> Result<rule_function::Value, String> {
    let read = |value| match value {
        rule_function::Value::Undefined => Ok(Value::Undefined),
        rule_function::Value::Json(json) => serde_json::from_str(&json).map(Value::Json),
        rule_function::Value::Bytes(bytes) => Ok(Value::Bytes(bytes)),
    };
    let arguments: Result<Vec<_>, _> = arguments.into_iter().map(read).collect();
    let arguments = arguments.map_err(|e| format!("an argument: {e}"))?;
    Ok(match call(slot, |plugin| plugin.call(name, &arguments))? {
        Value::Undefined => rule_function::Value::Undefined,
        Value::Json(json) => rule_function::Value::Json(json.to_string()),
        Value::Bytes(bytes) => rule_function::Value::Bytes(bytes),
    })
}

fn fail_all(count: usize, reason: &str) -> Vec<Failure> {
    (0..)
        .take(count)
        .map(|index| Failure { index, retryable: false, reason: reason.into() })
        .collect()
}

/// Makes a type the plugin of this component: `export!(Webhook: RuleAction)`. Several handlers
/// share one instance: `export!(Bridge: RuleAction, HttpHandler)`.
#[macro_export]
macro_rules! export {
    ($type:ident : $($handler:ident),+) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "generated export glue")]
        const _: () = {
            struct Component;
            ::std::thread_local! {
                static PLUGIN: $crate::glue::Slot<$type> = const { ::std::cell::RefCell::new(None) };
            }
            use $crate::bindings::lifecycle::exports::gnomon::plugin::lifecycle;
            impl lifecycle::Guest for Component {
                fn init(config: String) -> Result<(), String> {
                    PLUGIN.with(|slot| $crate::glue::init(slot, &config))
                }
            }
            $crate::bindings::lifecycle::__export_lifecycle!(Component);
            $($crate::__export_handler!($handler, Component);)+
        };
        // Natively nothing calls the plugin; without this its type would count as never used.
        #[cfg(not(target_arch = "wasm32"))]
        #[allow(non_snake_case, reason = "functions called after the traits")]
        const _: fn() = || {
            $(fn $handler<T: $crate::$handler>() {})+
            $($handler::<$type>();)+
            let _ = <$type as $crate::Plugin>::new;
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_handler {
    (RuleAction, $component:ident) => {
        use $crate::bindings::rule_action::exports::gnomon::plugin::rule_action;
        impl rule_action::Guest for $component {
            fn invoke(
                context: rule_action::ActionContext,
                messages: Vec<$crate::Message>,
            ) -> Result<Vec<$crate::Failure>, String> {
                PLUGIN.with(|slot| $crate::glue::invoke(slot, context, &messages))
            }
        }
        $crate::bindings::rule_action::__export_rule_action!($component);
    };
    (RuleFunction, $component:ident) => {
        use $crate::bindings::rule_function::exports::gnomon::plugin::rule_function;
        impl rule_function::Guest for $component {
            fn functions() -> Vec<rule_function::Declaration> {
                PLUGIN.with($crate::glue::functions)
            }
            fn call(
                name: String,
                arguments: Vec<rule_function::Value>,
            ) -> Result<rule_function::Value, String> {
                PLUGIN.with(|slot| $crate::glue::call_function(slot, &name, arguments))
            }
        }
        $crate::bindings::rule_function::__export_rule_function!($component);
    };
    (Authorizer, $component:ident) => {
        use $crate::bindings::authorizer::exports::gnomon::plugin::authorizer;
        impl authorizer::Guest for $component {
            fn authorize(request: $crate::AuthRequest) -> Result<$crate::AuthResponse, String> {
                PLUGIN.with(|slot| {
                    $crate::glue::call(slot, |plugin| {
                        $crate::Authorizer::authorize(plugin, &request)
                    })
                })
            }
        }
        $crate::bindings::authorizer::__export_authorizer!($component);
    };
    (EnhancedAuthorizer, $component:ident) => {
        use $crate::bindings::enhanced_authorizer::exports::gnomon::plugin::enhanced_authorizer;
        impl enhanced_authorizer::Guest for $component {
            fn exchange(
                request: $crate::ExchangeRequest,
            ) -> Result<$crate::ExchangeResponse, String> {
                PLUGIN.with(|slot| {
                    $crate::glue::call(slot, |plugin| {
                        $crate::EnhancedAuthorizer::exchange(plugin, &request)
                    })
                })
            }
        }
        $crate::bindings::enhanced_authorizer::__export_enhanced_authorizer!($component);
    };
    (HttpHandler, $component:ident) => {
        use $crate::bindings::http_handler::exports::gnomon::plugin::http_handler;
        impl http_handler::Guest for $component {
            fn on_request(request: $crate::Incoming) -> Result<$crate::Response, String> {
                PLUGIN.with(|slot| {
                    $crate::glue::call(slot, |plugin| $crate::HttpHandler::handle(plugin, request))
                })
            }
        }
        $crate::bindings::http_handler::__export_http_handler!($component);
    };
    (ProvisioningHook, $component:ident) => {
        use $crate::bindings::provisioning_hook::exports::gnomon::plugin::provisioning_hook;
        impl provisioning_hook::Guest for $component {
            fn decide(request: $crate::HookRequest) -> Result<$crate::HookResponse, String> {
                PLUGIN.with(|slot| {
                    $crate::glue::call(slot, |plugin| {
                        $crate::ProvisioningHook::decide(plugin, &request)
                    })
                })
            }
        }
        $crate::bindings::provisioning_hook::__export_provisioning_hook!($component);
    };
}
