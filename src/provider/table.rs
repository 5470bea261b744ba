//! The rows. A provider that speaks a known dialect is one line here: id, name, base URL, the secret with its key.
//!
//! What a line does not say is ordinary: OpenAI's dialect, the key as a bearer, `/chat/completions` and `/embeddings` below
//! the base URL, the id as OpenTelemetry name (otel.md §2.3: with `_` for `-`, unless there is a well-known one). Where it is
//! not, the line goes on, and a comment says why. Hosts that may be gone are kept as long as nobody knows better; what is
//! certainly gone is in [`RETIRED`].

use super::{Credential, Dialect, Provider};
use crate::llm::operation::Operation;

/// Every provider, in the order of their ids but for the first two.
pub static ALL: &[Provider] = &[
    chat_and_embeddings("openai", "OpenAI", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    Provider {
        dialect: Dialect::Anthropic,
        ..chat("anthropic", "Anthropic", "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY")
            .with_key(Credential::Header("x-api-key"))
            .with_endpoints(&[(Operation::Chat, "/messages")])
            .with_headers(&[("anthropic-version", "2023-06-01")])
    },
    chat("302ai", "302.AI", "https://api.302.ai/v1", "AI302_API_KEY"),
    // `/embed` is the old Jurassic API: not this dialect.
    chat("ai21", "AI21 Labs", "https://api.ai21.com/studio/v1", "AI21_API_KEY"),
    chat("aibadgr", "AI Badgr", "https://aibadgr.com/api/v1", "AIBADGR_API_KEY"),
    // The host is the Foundry resource's own; its API is versioned by date.
    chat("azure-ai", "Azure AI Foundry", NO_HOST, "AZURE_AI_API_KEY")
        .known_as("azure.ai.inference")
        .with_endpoints(AZURE_AI)
        .with_headers(&[("extra-parameters", "drop")]),
    // Wants to know the user agent.
    chat("cerebras", "Cerebras", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY").with_headers(&[("user-agent", "spangate")]),
    chat_and_embeddings("cometapi", "CometAPI", "https://api.cometapi.com/v1", "COMETAPI_API_KEY"),
    // The host is `https://<account>.snowflakecomputing.com/api/v2`. Its embeddings are nested lists: not this dialect.
    chat("cortex", "Snowflake Cortex", NO_HOST, "CORTEX_API_KEY")
        .with_endpoints(&[(Operation::Chat, "/cortex/inference:complete")])
        .with_headers(&[("x-snowflake-authorization-token-type", "KEYPAIR_JWT")]),
    chat_and_embeddings("custom", "Any OpenAI-compatible host", NO_HOST, "CUSTOM_API_KEY"),
    chat_and_embeddings(
        "dashscope",
        "Alibaba Cloud DashScope",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        "DASHSCOPE_API_KEY",
    ),
    chat("deepbricks", "Deepbricks", "https://api.deepbricks.ai/v1", "DEEPBRICKS_API_KEY"),
    chat_and_embeddings("deepinfra", "DeepInfra", "https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    chat("deepseek", "DeepSeek", "https://api.deepseek.com", "DEEPSEEK_API_KEY"),
    chat("featherless-ai", "Featherless AI", "https://api.featherless.ai/v1", "FEATHERLESS_API_KEY").known_as("featherless_ai"),
    chat_and_embeddings("fireworks-ai", "Fireworks AI", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY")
        .known_as("fireworks_ai"),
    chat_and_embeddings("github", "GitHub Models", "https://models.inference.ai.azure.com", "GITHUB_API_KEY"),
    chat("groq", "Groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    chat("huggingface", "Hugging Face", "https://router.huggingface.co/v1", "HUGGINGFACE_API_KEY"),
    chat("hyperbolic", "Hyperbolic", "https://api.hyperbolic.xyz/v1", "HYPERBOLIC_API_KEY"),
    chat_and_embeddings("inference-net", "Inference.net", "https://api.inference.net/v1", "INFERENCE_NET_API_KEY")
        .known_as("inference_net"),
    chat_and_embeddings(
        "iointelligence",
        "io.net Intelligence",
        "https://api.intelligence.io.solutions/api/v1",
        "IOINTELLIGENCE_API_KEY",
    ),
    embeddings("jina", "Jina AI", "https://api.jina.ai/v1", "JINA_API_KEY"),
    chat_and_embeddings("kluster-ai", "kluster.ai", "https://api.kluster.ai/v1", "KLUSTER_API_KEY").known_as("kluster_ai"),
    chat("krutrim", "Krutrim Cloud", "https://cloud.olakrutrim.com/v1", "KRUTRIM_API_KEY"),
    chat("lambda", "Lambda Inference", "https://api.lambda.ai/v1", "LAMBDA_API_KEY"),
    chat("lemonfox-ai", "Lemonfox.ai", "https://api.lemonfox.ai/v1", "LEMONFOX_API_KEY").known_as("lemonfox_ai"),
    chat("lepton", "Lepton AI", "https://api.lepton.ai/api/v1", "LEPTON_API_KEY"),
    chat("lingyi", "01.AI (Lingyi Wanwu)", "https://api.lingyiwanwu.com/v1", "LINGYI_API_KEY"),
    chat("matterai", "MatterAI", "https://api.matterai.so/v1", "MATTERAI_API_KEY"),
    chat_and_embeddings("mistral-ai", "Mistral AI", "https://api.mistral.ai/v1", "MISTRAL_API_KEY").known_as("mistral_ai"),
    Provider { base_url: Some("mock://spangate/v1"), ..chat_and_embeddings("mock", "Mock", NO_HOST, "MOCK_API_KEY") }
        .with_key(Credential::Optional),
    // Every deployment has its own `https://<workspace>--<app>.modal.run/v1`.
    chat("modal", "Modal", NO_HOST, "MODAL_API_KEY"),
    chat("monsterapi", "MonsterAPI", "https://llm.monsterapi.ai/v1", "MONSTERAPI_API_KEY"),
    chat("moonshot", "Moonshot AI (Kimi)", "https://api.moonshot.cn/v1", "MOONSHOT_API_KEY").known_as("moonshot_ai"),
    chat("ncompass", "nCompass", "https://api.ncompass.tech/v1", "NCOMPASS_API_KEY"),
    chat_and_embeddings("nebius", "Nebius AI Studio", "https://api.studio.nebius.ai/v1", "NEBIUS_API_KEY"),
    chat("nextbit", "Nextbit", "https://api.nextbit256.com/v1", "NEXTBIT_API_KEY"),
    chat_and_embeddings("novita-ai", "Novita AI", "https://api.novita.ai/v3/openai", "NOVITA_API_KEY").known_as("novita_ai"),
    chat("nscale", "Nscale", "https://inference.api.nscale.com/v1", "NSCALE_API_KEY"),
    chat_and_embeddings("nvidia-nim", "NVIDIA NIM", "https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY")
        .known_as("nvidia_nim"),
    // A Worker has no local host to call; the host is whatever makes it reachable.
    chat("ollama", "Ollama", NO_HOST, "OLLAMA_API_KEY").with_key(Credential::Optional).with_endpoints(BELOW_V1),
    chat_and_embeddings("openrouter", "OpenRouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    // Answers anonymous callers, slowly.
    chat_and_embeddings(
        "ovhcloud",
        "OVHcloud AI Endpoints",
        "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1",
        "OVHCLOUD_API_KEY",
    )
    .with_key(Credential::Optional),
    chat_and_embeddings("perplexity-ai", "Perplexity", "https://api.perplexity.ai", "PERPLEXITY_API_KEY").known_as("perplexity"),
    chat_and_embeddings("portkey", "Portkey hosted gateway", "https://api.portkey.ai/v1", "PORTKEY_API_KEY")
        .with_key(Credential::Header("x-portkey-api-key")),
    // The host is `https://serving.app.predibase.com/<tenant>/deployments/v2/llms/<base model>`.
    chat("predibase", "Predibase", NO_HOST, "PREDIBASE_API_KEY").with_endpoints(CHAT_BELOW_V1),
    // Images only: known, so that a call says what is missing.
    chat("recraft-ai", "Recraft", "https://external.api.recraft.ai/v1", "RECRAFT_API_KEY")
        .known_as("recraft_ai")
        .with_endpoints(&[]),
    chat("reka-ai", "Reka", "https://api.reka.ai/v1", "REKA_API_KEY").known_as("reka_ai"),
    chat_and_embeddings("sambanova", "SambaNova Cloud", "https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    chat_and_embeddings("siliconflow", "SiliconFlow", "https://api.siliconflow.cn/v1", "SILICONFLOW_API_KEY"),
    chat_and_embeddings("together-ai", "Together AI", "https://api.together.xyz/v1", "TOGETHER_API_KEY").known_as("together_ai"),
    chat_and_embeddings("upstage", "Upstage", "https://api.upstage.ai/v1", "UPSTAGE_API_KEY"),
    embeddings("voyage", "Voyage AI", "https://api.voyageai.com/v1", "VOYAGE_API_KEY"),
    chat_and_embeddings("x-ai", "xAI", "https://api.x.ai/v1", "XAI_API_KEY").known_as("x_ai"),
    chat("z-ai", "Z.AI", "https://api.z.ai/api/paas/v4", "ZAI_API_KEY").known_as("z_ai"),
    chat_and_embeddings("zhipu", "Zhipu AI (BigModel)", "https://open.bigmodel.cn/api/paas/v4", "ZHIPUAI_API_KEY"),
];

/// Ids that once were providers, and what to tell those who still use them.
pub static RETIRED: &[(&str, &str)] = &[
    (
        "anyscale",
        "Anyscale's public endpoints were shut down in 2024; for a private one use the provider custom with custom_host",
    ),
    ("palm", "the PaLM API was switched off; its successor is Gemini"),
];

const fn chat_and_embeddings(id: &'static str, name: &'static str, base_url: &'static str, key_var: &'static str) -> Provider {
    let base_url = if base_url.is_empty() { None } else { Some(base_url) };
    Provider {
        id,
        name,
        dialect: Dialect::OpenAi,
        base_url,
        credential: Credential::Bearer,
        key_var,
        otel_name: id,
        endpoints: &[CHAT, EMBEDDINGS],
        headers: &[],
        ends_without_done: false,
    }
}

const fn chat(id: &'static str, name: &'static str, base_url: &'static str, key_var: &'static str) -> Provider {
    chat_and_embeddings(id, name, base_url, key_var).with_endpoints(&[CHAT])
}

const fn embeddings(id: &'static str, name: &'static str, base_url: &'static str, key_var: &'static str) -> Provider {
    chat_and_embeddings(id, name, base_url, key_var).with_endpoints(&[EMBEDDINGS])
}

impl Provider {
    const fn known_as(self, otel_name: &'static str) -> Provider {
        Provider { otel_name, ..self }
    }

    const fn with_key(self, credential: Credential) -> Provider {
        Provider { credential, ..self }
    }

    const fn with_endpoints(self, endpoints: &'static [(Operation, &'static str)]) -> Provider {
        Provider { endpoints, ..self }
    }

    const fn with_headers(self, headers: &'static [(&'static str, &'static str)]) -> Provider {
        Provider { headers, ..self }
    }
}

/// For providers of which every customer has a host of his own: `custom_host` is required.
const NO_HOST: &str = "";

const CHAT: (Operation, &str) = (Operation::Chat, "/chat/completions");
const EMBEDDINGS: (Operation, &str) = (Operation::Embeddings, "/embeddings");

const CHAT_BELOW_V1: &[(Operation, &str)] = &[(Operation::Chat, "/v1/chat/completions")];
const BELOW_V1: &[(Operation, &str)] = &[(Operation::Chat, "/v1/chat/completions"), (Operation::Embeddings, "/v1/embeddings")];
const AZURE_AI: &[(Operation, &str)] = &[
    (Operation::Chat, "/chat/completions?api-version=2024-05-01-preview"),
    (Operation::Embeddings, "/embeddings?api-version=2024-05-01-preview"),
];
