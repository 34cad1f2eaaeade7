"""GPT-2 and BERT in plain PyTorch: the modules of Hugging Face's transformers under their names, in the order they register them."""
import math

import torch
from torch import nn

ACTIVATIONS = {"gelu_new": lambda: nn.GELU("tanh"), "gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}


def attend(q, k, v, heads, allowed, scale):
    q, k, v = (t.view(*t.shape[:2], heads, -1).transpose(1, 2) for t in (q, k, v))
    scores = q @ k.transpose(-2, -1) * scale
    if allowed is not None:
        scores = torch.where(allowed, scores, torch.full((), torch.finfo(scores.dtype).min, dtype=scores.dtype))
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def everyone(mask):
    return None if mask is None else mask.ne(0)[:, None, None, :]


class Conv1D(nn.Module):
    def __init__(self, nf, nx):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(nx, nf))
        self.bias = nn.Parameter(torch.zeros(nf))

    def forward(self, x):
        return x @ self.weight + self.bias


class GPT2Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads = c["n_head"]
        self.scale = 1 / math.sqrt(c["n_embd"] // c["n_head"]) if c["scale_attn_weights"] else 1
        self.c_attn = Conv1D(3 * c["n_embd"], c["n_embd"])
        self.c_proj = Conv1D(c["n_embd"], c["n_embd"])

    def forward(self, x, mask):
        q, k, v = self.c_attn(x).split(x.shape[-1], dim=2)
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        return self.c_proj(attend(q, k, v, self.heads, causal if mask is None else causal & everyone(mask), self.scale))


class GPT2MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        inner = c["n_inner"] or 4 * c["n_embd"]
        self.c_fc = Conv1D(inner, c["n_embd"])
        self.c_proj = Conv1D(c["n_embd"], inner)
        self.act = ACTIVATIONS[c["activation_function"]]()

    def forward(self, x):
        return self.c_proj(self.act(self.c_fc(x)))


class GPT2Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.ln_1 = nn.LayerNorm(c["n_embd"], eps=c["layer_norm_epsilon"])
        self.attn = GPT2Attention(c)
        self.ln_2 = nn.LayerNorm(c["n_embd"], eps=c["layer_norm_epsilon"])
        self.mlp = GPT2MLP(c)

    def forward(self, x, mask):
        x = x + self.attn(self.ln_1(x), mask)
        return x + self.mlp(self.ln_2(x))


class GPT2Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.wte = nn.Embedding(c["vocab_size"], c["n_embd"])
        self.wpe = nn.Embedding(c["n_positions"], c["n_embd"])
        self.h = nn.ModuleList([GPT2Block(c) for _ in range(c["n_layer"])])
        self.ln_f = nn.LayerNorm(c["n_embd"], eps=c["layer_norm_epsilon"])

    def forward(self, input_ids, attention_mask=None, position_ids=None):
        positions = torch.arange(input_ids.shape[1])[None] if position_ids is None else position_ids
        x = self.wte(input_ids) + self.wpe(positions)
        for block in self.h:
            x = block(x, attention_mask)
        return self.ln_f(x)


class GPT2LMHeadModel(nn.Module):
    def __init__(self, **args):
        super().__init__()
        c = {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_inner": None, "activation_function": "gelu_new",
             "layer_norm_epsilon": 1e-5, "scale_attn_weights": True, "tie_word_embeddings": True, **args}
        self.transformer = GPT2Model(c)
        self.lm_head = nn.Linear(c["n_embd"], c["vocab_size"], bias=False)
        if c["tie_word_embeddings"]:
            self.lm_head.weight = self.transformer.wte.weight

    def forward(self, *inputs, **named):
        return self.lm_head(self.transformer(*inputs, **named))


class BertEmbeddings(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.word_embeddings = nn.Embedding(c["vocab_size"], c["hidden_size"], padding_idx=c["pad_token_id"])
        self.position_embeddings = nn.Embedding(c["max_position_embeddings"], c["hidden_size"])
        self.token_type_embeddings = nn.Embedding(c["type_vocab_size"], c["hidden_size"])
        self.LayerNorm = nn.LayerNorm(c["hidden_size"], eps=c["layer_norm_eps"])

    def forward(self, ids, types, positions):
        types = torch.zeros_like(ids) if types is None else types
        positions = torch.arange(ids.shape[1])[None] if positions is None else positions
        return self.LayerNorm(self.word_embeddings(ids) + self.token_type_embeddings(types) + self.position_embeddings(positions))


class BertSelfAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads = c["num_attention_heads"]
        self.query = nn.Linear(c["hidden_size"], c["hidden_size"])
        self.key = nn.Linear(c["hidden_size"], c["hidden_size"])
        self.value = nn.Linear(c["hidden_size"], c["hidden_size"])

    def forward(self, x, mask):
        return attend(self.query(x), self.key(x), self.value(x), self.heads, everyone(mask), 1 / math.sqrt(x.shape[-1] // self.heads))


class BertOutput(nn.Module):
    def __init__(self, c, inputs):
        super().__init__()
        self.dense = nn.Linear(inputs, c["hidden_size"])
        self.LayerNorm = nn.LayerNorm(c["hidden_size"], eps=c["layer_norm_eps"])

    def forward(self, x, residual):
        return self.LayerNorm(self.dense(x) + residual)


class BertAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.add_module("self", BertSelfAttention(c))
        self.output = BertOutput(c, c["hidden_size"])

    def forward(self, x, mask):
        return self.output(getattr(self, "self")(x, mask), x)


class Dense(nn.Module):
    def __init__(self, inputs, outputs, activation):
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)
        self.activation = activation

    def forward(self, x):
        return self.activation(self.dense(x))


class BertLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.attention = BertAttention(c)
        self.intermediate = Dense(c["hidden_size"], c["intermediate_size"], ACTIVATIONS[c["hidden_act"]]())
        self.output = BertOutput(c, c["intermediate_size"])

    def forward(self, x, mask):
        x = self.attention(x, mask)
        return self.output(self.intermediate(x), x)


class BertEncoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.layer = nn.ModuleList([BertLayer(c) for _ in range(c["num_hidden_layers"])])

    def forward(self, x, mask):
        for layer in self.layer:
            x = layer(x, mask)
        return x


class BertModel(nn.Module):
    def __init__(self, **args):
        super().__init__()
        c = {"vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu",
             "max_position_embeddings": 512, "type_vocab_size": 2, "pad_token_id": 0, "layer_norm_eps": 1e-12, **args}
        self.embeddings = BertEmbeddings(c)
        self.encoder = BertEncoder(c)
        self.pooler = Dense(c["hidden_size"], c["hidden_size"], nn.Tanh())

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, position_ids=None):
        x = self.encoder(self.embeddings(input_ids, token_type_ids, position_ids), attention_mask)
        return x, self.pooler(x[:, 0])


class BertForSequenceClassification(nn.Module):
    def __init__(self, num_labels=2, **args):
        super().__init__()
        self.bert = BertModel(**args)
        self.classifier = nn.Linear(self.bert.pooler.dense.in_features, num_labels)

    def forward(self, *inputs, **named):
        return self.classifier(self.bert(*inputs, **named)[1])


LANGUAGE = {"GPT2LMHeadModel": GPT2LMHeadModel, "BertModel": BertModel, "BertForSequenceClassification": BertForSequenceClassification}
