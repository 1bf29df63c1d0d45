//! Functions of rules' statements, by a plugin that exports `rule-function`.
//!
//! In: a name and values. Out: a value, or why there is none. What the plugin declares is read once,
//! when it is loaded.

use crate::bindings::guest::rule_function as wit;
use crate::instance::bounded;
use crate::pool::{CallError, Pool};
use gnomon_core::rules::sql::{Datum, is_builtin};
use std::sync::Arc;

/// CPU time of one call unless the operator says otherwise.
const CPU_MS: u32 = 50;

/// Functions of one plugin.
const FUNCTIONS_MAX: usize = 64;

/// Longest name of a function in bytes.
const NAME_BYTES_MAX: usize = 64;

/// A plugin as the offerer of functions.
pub struct PluginFunctions {
    pool: Arc<Pool>,
    cpu_ms: u32,
    declarations: Vec<wit::Declaration>,
}

impl PluginFunctions {
    /// Asks the plugin what it offers; `None` when it exports no functions.
    ///
    /// # Errors
    /// It crashes, or declares what cannot be.
    pub async fn load(pool: &Arc<Pool>, cpu_ms: Option<u32>) -> Result<Option<Self>, String> {
        if pool.handlers.rule_function.is_none() {
            return Ok(None);
        }
        let cpu_ms = cpu_ms.unwrap_or(CPU_MS);
        let declarations = declarations(pool, cpu_ms).await.map_err(|error| error.to_string())?;
        check(&declarations)?;
        Ok(Some(Self { pool: pool.clone(), cpu_ms, declarations }))
    }

    /// Names of the functions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.declarations.iter().map(|declaration| declaration.name.as_str())
    }

    fn find(&self, name: &str) -> Option<&wit::Declaration> {
        self.declarations.iter().find(|it| it.name.eq_ignore_ascii_case(name))
    }

    /// Whether the plugin offers a function of this name.
    pub fn offers(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The value of a call; of a wrong number of arguments it is Undefined, as for the functions of
    /// the language.
    ///
    /// # Errors
    /// The plugin's own, or that it cannot answer; for the operator.
    pub async fn call(&self, name: &str, arguments: &[Datum]) -> Result<Datum, String> {
        let plugin = &self.pool.context.name;
        let declaration =
            self.find(name).ok_or_else(|| format!("plugin {plugin} has no function {name:.64}"))?;
        let n = arguments.len();
        let is_within = n >= declaration.min_arguments as usize
            && declaration.max_arguments.is_none_or(|max| n <= max as usize);
        if !is_within {
            return Ok(Datum::Undefined);
        }
        let arguments: Vec<_> = arguments.iter().map(to_wit).collect();
        let answer = self.ask(&declaration.name, &arguments).await;
        match answer.map_err(|error| error.to_string())? {
            Ok(wit::Value::Undefined) => Ok(Datum::Undefined),
            Ok(wit::Value::Json(json)) => Ok(Datum::Json(json)),
            Ok(wit::Value::Bytes(bytes)) => Ok(Datum::Bytes(bytes.into())),
            Err(reason) => Err(format!("plugin {plugin}: {reason}")),
        }
    }

    async fn ask(
        &self,
        name: &str,
        arguments: &[wit::Value],
    ) -> Result<Result<wit::Value, String>, CallError> {
        let mut lease = self.pool.lease(self.cpu_ms).await?;
        let instance = &mut lease.instance;
        let guest =
            instance.rule_function.as_ref().expect("`load` checked that the handler is exported");
        let call = guest.call_call(&mut instance.store, name, arguments);
        let outcome = bounded(self.pool.context.wall, call).await;
        lease.settle(outcome)
    }
}

async fn declarations(pool: &Pool, cpu_ms: u32) -> Result<Vec<wit::Declaration>, CallError> {
    let mut lease = pool.lease(cpu_ms).await?;
    let instance = &mut lease.instance;
    let guest =
        instance.rule_function.as_ref().expect("the caller checked that the handler is exported");
    let call = guest.call_functions(&mut instance.store);
    let outcome = bounded(pool.context.wall, call).await;
    lease.settle(outcome)
}

fn check(declarations: &[wit::Declaration]) -> Result<(), String> {
    if declarations.len() > FUNCTIONS_MAX {
        let n = declarations.len();
        return Err(format!("declares {n} functions; at most {FUNCTIONS_MAX} are allowed"));
    }
    for (index, declaration) in declarations.iter().enumerate() {
        let name = &declaration.name;
        let is_word = name.len() <= NAME_BYTES_MAX
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        if !is_word {
            return Err(format!(
                "declares a function {name:.80?}; a name has 1 to {NAME_BYTES_MAX} of [a-zA-Z0-9_] \
                 and begins with no digit"
            ));
        }
        if is_builtin(name) {
            return Err(format!("declares a function {name}, which the language has already"));
        }
        if declarations[..index].iter().any(|it| it.name.eq_ignore_ascii_case(name)) {
            return Err(format!("declares the function {name} twice"));
        }
    }
    Ok(())
}

fn to_wit(datum: &Datum) -> wit::Value {
    match datum {
        Datum::Undefined => wit::Value::Undefined,
        Datum::Json(json) => wit::Value::Json(json.clone()),
        Datum::Bytes(bytes) => wit::Value::Bytes(bytes.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_statement_could_not_call_is_refused() {
        let told = |names: &[&str]| {
            let declare = |name: &&str| wit::Declaration {
                name: (*name).to_owned(),
                min_arguments: 0,
                max_arguments: None,
            };
            check(&names.iter().map(declare).collect::<Vec<_>>())
        };
        assert_eq!(told(&["geo_distance", "_x9"]), Ok(()));
        for (names, expected) in [
            (&["Upper"][..], "declares a function Upper, which the language has already"),
            (&["a", "A"], "declares the function A twice"),
            (&[""], "declares a function \"\"; a name has 1 to 64 of [a-zA-Z0-9_]"),
            (&["9a"], "declares a function \"9a\""),
            (&["a b"], "declares a function \"a b\""),
            (&["a"; 65], "declares 65 functions; at most 64 are allowed"),
        ] {
            let error = told(names).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
