#!/usr/bin/env python3
"""Writes src/Engine/Weights/Script/Operators.txt: every operator of libtorch's aten namespace, and whether TorchScript files may use it by default.

    python3 tests/fixtures-generator/script_operators.py PATH/TO/libtorch_cpu.so

The names are read from the library's strings: the schemas, and the qualified names that each operator is called by. Run it when libtorch changes, and
read the difference: what is added is allowed only where a rule below says so.
"""
import pathlib
import re
import sys

OUT = pathlib.Path(__file__).resolve().parents[2] / "src" / "Engine" / "Weights" / "Script" / "Operators.txt"
SCHEMA = re.compile(rb"(?:aten::)?([A-Za-z_][A-Za-z_0-9]*)(?:\.[A-Za-z0-9_]+)?\((?:\)|\*|[A-Z_a-z\[\]()?!, |0-9]+ [a-z_A-Z0-9]+).*\) -> .+")
SHORT = set("abs add all any bin chr cat cov cpu del det dim div dot eig elu eq erf exp eye fix fmax gcd ge get ger glu gru gt hex hash i0 id inv item lcm le len lerp log lt lu max min mm mod mul mv ne neg norm oct ord pad pop pow put qr rad ravel real repr rev rot row rsub run save select send set sgn sin sort split std str sub sum svd t t_ tan tile to topk trunc type unbind var view".split())
NAME = re.compile(rb"aten::([A-Za-z_][A-Za-z_0-9]*)(?:\.[A-Za-z0-9_]+)?")

# Of the names that begin with an underscore, what PyTorch's tracer and printer write.
UNDERSCORED = set(
    """__and__ __contains__ __derive_index __getitem__ __iand__ __ilshift__ __interpolate __ior__ __irshift__ __is__ __isnot__ __ixor__ __lshift__ __not__ __or__ __range_length
    __round_to_zero_floordiv __rshift__ __upsample __upsample_bilinear __upsample_nearest __xor__ _adaptive_avg_pool2d _adaptive_avg_pool3d _add_relu _aminmax _assert_tensor_metadata
    _cast_Byte _cast_Char _cast_Double _cast_Float _cast_Half _cast_Int _cast_Long _cast_Short _conj _convolution _convolution_mode _dim_arange _euclidean_dist _infer_size
    _log_softmax _log_softmax_ _native_batch_norm_legit _native_batch_norm_legit_no_training _native_multi_head_attention _pack_padded_sequence _pad_circular _pad_enum _pad_packed_sequence
    _safe_softmax _set_item _shape_as_tensor _softmax _stack _tensor_to_list _list_to_tensor _transformer_encoder_layer_fwd _trilinear _unique _unique2
    _unsafe_view _unwrap_optional _upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d _weight_norm""".split()
)

# Neither math nor strings and lists: files, memory that nobody wrote, another tensor's storage, gradients behind autograd's back, settings of the whole process, other processes,
# other threads, formats and devices that the server does not convert; and what is known to read out of bounds, to crash at NaN (linalg_eig) or never to end (replace of "").
REFUSED = re.compile(
    r"""(?x)^(?: .*backward.* | .*_jvp | .*quantize.* | quantized_.* | q_.* | qscheme | int_repr | cudnn_.* | miopen_.* | mkldnn_.* | to_mkldnn | mps_.* | fbgemm_.* | choose_qparams_optimized
    | .*sparse.* | sspaddmm | hspmm | smm | c?c?col_indices(_copy)? | c?row_indices(_copy)? | crow_indices(_copy)? | coalesce | is_coalesced | .*nested.* | to_padded_tensor
    | nvshmem.* | multimem.* | .*all_?gather.* | .*all_?reduce.* | .*all_?to_?all.* | one_shot.* | two_shot.* | reduce_?scatter.* | barrier | monitored_barrier_ | broadcast_? | reduce_ | gather_ | send | recv.*
    | is_distributed | shard_dim_alltoall | rpc_.* | fork | wait | wait_tensor | awaitable.* | stream_.* | memset32_ | record_stream | get_autocast.* | .*set_autocast.* | is_vulkan.* | tile_reduce | multi_root_tile_reduce
    | save | load | from_file | set | set_ | set_data | resize | resize_ | resize_as | resize_as_ | requires_grad_ | retain_grad | retains_grad | grad | get_gradients
    | manual_seed | seed | initial_seed | set_grad_enabled | pin_memory | is_pinned | cuda | empty.* | new_empty.* | lift.* | as_strided_ | ctc_loss | segment_reduce | batch_norm_.+ | fused_.* | data_ptr
    | get_pool_ceil_padding | has_torch_function | id | hash | hash_tensor | is_set_to | output_nr | storage_offset | .*_overrideable | slice_inverse | unflatten_dense_tensors | rename_? | oneDNN.* | profile.*
    | sym_.* | native_norm | nested_.* | slow_conv.* | thnn_.* | conv_depthwise3d | lu_unpack | normal_functional | .*_functional
    | linalg_eig | linalg_eigvals | replace )$"""
)


def main():
    library = pathlib.Path(sys.argv[1])
    text = library.read_bytes()
    names = set()
    for piece in re.findall(rb"[\x20-\x7e]{4,}", text):
        for pattern in (SCHEMA, NAME):
            if match := pattern.fullmatch(piece):
                names.add(match[1].decode())
    # The compiler's own, of the prim namespace.
    names = {name for name in names if not name[0].isupper() or name in ("Bool", "Complex", "ComplexImplicit", "Float", "FloatImplicit", "Int", "IntImplicit", "ScalarImplicit", "Size", "Delete")}
    # Pieces of other strings and of machine code, which are no operators: "zeH", "po". A name too few is refused, so that nothing opens by it.
    names = {name for name in names if len(name) < 64 and name != "sigmoid_badivisor_override" and not re.fullmatch(r"[a-z]{2}[A-Z]", name) and (len(name) != 2 or name in SHORT)}
    names.add("is_grad_enabled")
    lines = []
    for name in sorted(names):
        allowed = name in UNDERSCORED if name.startswith("_") else not REFUSED.match(name)
        lines.append(f"{'+' if allowed else '-'} {name}")
    OUT.write_text("\n".join(lines) + "\n")
    print(len(lines), "operators,", sum(line[0] == "+" for line in lines), "allowed")


if __name__ == "__main__":
    main()
