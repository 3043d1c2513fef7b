"""Text tokenizers and text encoders."""

from diffusers_cases.common import *  # noqa: F403

# ------------------------------------------------------------------------------------------------ tokenizers (text)
WORDS = (
    "the a of on in and to robot arm lifts pushes red blue cup box from table while camera moves pans slowly quickly "
    "left right street rain sun snow car truck turns stops dust light shadow kitchen warehouse forest river bridge "
    "café naïve über señor façade it's don't we'll they're 2024 7 12 345 世界 模型 机器人 こんにちは 카메라 мир робот"
).split()
HARD = [
    "", "a", " leading and trailing  ", "two  spaces   three", "tab\tnew\nline\n\nend", "Don't WE'LL they're it'S",
    "1234567 3.14159 1,000 50%", "世界模型，机器人推杯子。", "こんにちは、カメラ", "안녕하세요 카메라", "мир и робот",
    "emoji 😀🚗👩‍🚀 end", "cafe\u0301 café NAÏVE ﬁne ﬃ ①②", "ｆｕｌｌｗｉｄｔｈ　ｓｐａｃｅ", "a\u00a0b\u2009c\u200bd",
    "“quoted” — dash… ¿qué? ½ €5 №7", "f(x)=x**2; // code {[\"k\"]: 'v'} <tag/> a_b-c@d.e #1", "zzzyqx Ωψ ∑∫ ☂",
]


def sentence(plan, n):
    words = [plan.rng.choice(WORDS) for _ in range(n)]
    return " ".join(w + ("," if plan.rng.random() < 0.1 else "") for w in words).capitalize() + plan.pick(".", "!", "?", "")


def spiece_fields(data):
    """The fields of one protobuf message (the SentencePiece model is one)."""

    def varint(i):
        shift = value = 0
        while True:
            byte = data[i]
            i += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value, i

    i = 0
    while i < len(data):
        key, i = varint(i)
        if key & 7 == 0:
            value, i = varint(i)
        else:
            size = {1: 8, 5: 4}.get(key & 7)
            if size is None:
                size, i = varint(i)
            value, i = data[i:i + size], i + size
        yield key >> 3, value


def train_unigram(sentences, vocab, coverage):
    """A SentencePiece unigram model with T5's special pieces, as the bytes of its file."""
    import sentencepiece

    blob = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=blob, vocab_size=vocab, model_type="unigram", pad_id=0, eos_id=1,
        unk_id=2, bos_id=-1, pad_piece="<pad>", eos_piece="</s>", unk_piece="<unk>", hard_vocab_limit=False,
        character_coverage=coverage, num_threads=1, minloglevel=2)
    return blob.getvalue()


def t5_of(spiece, **options):
    """transformers' tokenizer of such a file."""
    from transformers import T5Tokenizer

    pieces, charsmap = [], None
    for field, value in spiece_fields(spiece):
        if field == 1:
            piece = dict(spiece_fields(value))
            pieces.append((piece[1].decode(), struct.unpack("<f", piece[2])[0] if 2 in piece else 0.0))
        elif field == 3:
            charsmap = dict(spiece_fields(value)).get(2)
    return T5Tokenizer(vocab=pieces + [(f"<extra_id_{i}>", 0.0) for i in range(99, -1, -1)],
                       _spm_precompiled_charsmap=charsmap, **options)


def t5_tokenizer(plan, path, vocab=220):
    """A SentencePiece unigram model trained on generated text: spiece.model and tokenizer.json, as T5 has them."""
    import sentencepiece

    spiece = train_unigram([sentence(plan, plan.rng.randint(4, 12)) for _ in range(500)], vocab, 0.9995)
    tok = t5_of(spiece, model_max_length=512)
    if path is not None:
        tok.save_pretrained(path)
        (path / "spiece.model").write_bytes(spiece)
    tok.spiece = spiece
    sp = sentencepiece.SentencePieceProcessor(model_proto=tok.spiece)
    for text in HARD:
        assert tok(text).input_ids == sp.encode(text) + [1], f"sentencepiece and transformers differ on {text!r}"
    return tok


CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{{ c['text'] }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def qwen_tokenizer(plan, path, vocab=420):
    """A byte-level BPE of Qwen2's form, trained on generated text: vocab.json, merges.txt and tokenizer.json."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    lines = [sentence(plan, plan.rng.randint(4, 12)) for _ in range(500)]
    bpe.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=vocab, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    model = json.loads(bpe.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    tok = Qwen2Tokenizer(
        vocab=model["vocab"], merges=merges, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        unk_token="<|endoftext|>", additional_special_tokens=["<|im_start|>", "<|im_end|>"], padding_side="right",
        model_max_length=4096)
    tok.chat_template = CHAT
    if path is not None:
        tok.save_pretrained(path)
        (path / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False) + "\n")
        (path / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    tok.files = model["vocab"], merges
    return tok


def save_tokenizer(tok, path):
    tok.save_pretrained(path)
    if hasattr(tok, "spiece"):
        (path / "spiece.model").write_bytes(tok.spiece)
    if hasattr(tok, "files"):
        (path / "vocab.json").write_text(json.dumps(tok.files[0], ensure_ascii=False) + "\n")
        (path / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in tok.files[1]))


def token_cases(kind, make):
    def write(plan, sink, name, texts, length, note):
        path = sink.folder(name)
        tok = make(plan, path / "model")
        from transformers import AutoTokenizer

        again = AutoTokenizer.from_pretrained(path / "model")
        pad = dict(padding="max_length", truncation=True, max_length=length) if length else {}
        got = tok(texts, return_tensors="pt", **pad)
        assert torch.equal(got.input_ids, again(texts, return_tensors="pt", **pad).input_ids), "the saved folder differs"
        args = [a for t in texts for a in ("--text", t)] + (["--max-length", str(length)] if length else [])
        assert any(len(tok(t).input_ids) > length for t in texts) or not length, f"{name}: nothing is truncated"
        sink.finish(path, {"call": "tokenizer.encode", "args": args, "tolerance": {"max_mismatch": 0}, "note": note},
                    {"input_ids": got.input_ids, "attention_mask": got.attention_mask})

    @case(f"tokenizer/{kind}_batch")
    def _(plan, s, sink):
        hard = plan.rng.sample(HARD[1:], len(HARD) - 1) + [""]
        texts = hard + [sentence(plan, n) for n in (3, 7, 40)]
        write(plan, sink, f"tokenizer/{kind}_batch", texts, plan.pick(17, 22, 25),
              "padded to and cut at --max-length, as the pipelines do")

    @case(f"tokenizer/{kind}_single")
    def _(plan, s, sink):
        write(plan, sink, f"tokenizer/{kind}_single", [sentence(plan, 30) + " " + plan.rng.choice(HARD[5:])], 0,
              "one text, no padding, no cut")


token_cases("t5", t5_tokenizer)
token_cases("qwen2", qwen_tokenizer)


# ------------------------------------------------------------------------------------------------ text encoders
def t5_encoder(plan, s, vocab, kind="t5"):
    from transformers import T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

    config, model = (UMT5Config, UMT5EncoderModel) if kind == "umt5" else (T5Config, T5EncoderModel)
    return randomise(model(config(
        vocab_size=vocab, d_model=s.text_dim, d_kv=plan.pick(6, 8), d_ff=plan.pick(24, 40), num_layers=s.layers,
        num_heads=plan.pick(2, 3), relative_attention_num_buckets=plan.pick(8, 32),
        relative_attention_max_distance=plan.pick(20, 128), dropout_rate=0.0,
        feed_forward_proj="relu" if kind == "t5" else "gated-gelu")), plan)


def qwen_encoder(plan, s, vocab, hidden=None, layers=None):
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    heads, kv = plan.pick((4, 2), (4, 1), (6, 2))
    dim = 8
    hidden = hidden or heads * dim
    config = Qwen2_5_VLConfig(
        text_config=dict(
            vocab_size=vocab, hidden_size=heads * dim, intermediate_size=plan.pick(40, 56),
            num_hidden_layers=layers or s.layers, num_attention_heads=heads, num_key_value_heads=kv,
            max_position_embeddings=4096, rms_norm_eps=1e-6, pad_token_id=None,
            rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": plan.pick(1e4, 1e6)}),
        vision_config=dict(depth=1, hidden_size=16, intermediate_size=24, num_heads=2, out_hidden_size=heads * dim,
                           window_size=56, fullatt_block_indexes=[0]),
        image_token_id=vocab + 1, video_token_id=vocab + 2, vision_start_token_id=vocab + 3, vision_end_token_id=vocab + 4)
    return randomise(Qwen2_5_VLForConditionalGeneration(config), plan)


def ids_and_mask(plan, batch, length, vocab):
    mask = torch.ones(batch, length, dtype=torch.int64)
    for row in range(1, batch):
        mask[row, plan.rng.randrange(length // 3, length - 1):] = 0
    return plan.ints(3, vocab, batch, length) * mask, mask


def encoder_case(kind):
    @case(f"text_encoder/{kind}")
    def _(plan, s, sink):
        vocab, length = plan.pick(61, 97), plan.rng.randrange(s.text_len, 2 * s.text_len) + 20
        ids, mask = ids_and_mask(plan, 3, length, vocab)
        if kind.startswith("qwen"):
            model = qwen_encoder(plan, s, vocab)

            def forward(input_ids, attention_mask):
                out = model.model(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
                return {"last_hidden_state": out.last_hidden_state, "hidden_states": list(out.hidden_states)}
        else:
            model = t5_encoder(plan, s, vocab, kind)

            def forward(input_ids, attention_mask):
                return {"last_hidden_state": model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state}
        note = {"qwen25vl": "positions count from 0 whatever the mask; hidden_states.0 is the embedding, the last one is "
                "after the final norm; the vision tower is in the folder and unused",
                "t5": "masked keys; rows of padding are compared too"}.get(kind, "")
        args = ["--all-layers"] if kind.startswith("qwen") else []
        eval_case(sink, plan, f"text_encoder/{kind}", model, "text_encoder.forward",
                  dict(input_ids=ids, attention_mask=mask), forward, args=args, note=note)
        other = mask.clone()
        other[0, length // 2:] = 0
        a, b = (forward(input_ids=ids, attention_mask=m)["last_hidden_state"][0] for m in (mask, other))
        assert rel(a, b) > 5e-3, f"{kind}: the mask does not matter"


for _kind in ("t5", "t5_gated", "umt5", "qwen25vl"):
    encoder_case(_kind)
