using Sconce.Engine.Tensors;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Weights.TorchZip;

/// <summary>
/// A storage as it is written. Tensors that share memory share one, so that they are tied again when PyTorch loads them: of one tensor, or several that are
/// the same view, the dense elements; of different views, the stretch of memory that they cover together.
/// </summary>
internal sealed class WrittenStorage
{
    private readonly Tensor _first;
    private readonly bool _isStretch;

    private WrittenStorage(Tensor first, bool isStretch, ElementType type, long count) => (_first, _isStretch, Type, Count) = (first, isStretch, type, count);

    /// <summary>Type of its elements.</summary>
    public ElementType Type { get; }

    /// <summary>How many there are.</summary>
    public long Count { get; }

    /// <summary>Bytes of all of them.</summary>
    public long Bytes => Count * Type.Size();

    /// <summary>Plans the storages of a state dict.</summary>
    /// <param name="entries">The tensors, which stay the caller's.</param>
    /// <returns>The storages, and each tensor as a view of one.</returns>
    /// <exception cref="EngineException">A tensor is of a dtype that cannot be written.</exception>
    public static (List<WrittenStorage> Storages, List<WrittenTensor> Tensors) Plan(IReadOnlyList<(string Key, Tensor Value)> entries)
    {
        var views = entries.Select((entry, i) => new View(i, entry.Value)).ToList();
        var clusters = views.GroupBy(view => view.Memory).SelectMany(group => Overlapping([.. group]));
        var (storages, tensors) = (new List<WrittenStorage>(), new List<WrittenTensor>(entries.Count));

        // PyTorch numbers them as it meets them.
        var of = clusters.SelectMany(cluster => cluster.Select(view => (view.Index, Cluster: cluster))).ToDictionary(pair => pair.Index, pair => pair.Cluster);
        var places = new Dictionary<List<View>, int>();
        for (var i = 0; i < entries.Count; i++)
        {
            var cluster = of[i];
            var first = cluster[0];
            var isStretch = !cluster.TrueForAll(view => view.Start == first.Start && view.Sizes.SequenceEqual(first.Sizes) && view.Strides.SequenceEqual(first.Strides));
            if (!places.TryGetValue(cluster, out var storage))
            {
                places.Add(cluster, storage = storages.Count);
                storages.Add(new WrittenStorage(first.Tensor, isStretch, first.Type, isStretch ? cluster.Max(view => view.End) - first.Start : first.Tensor.numel()));
            }

            var view = views[i];
            tensors.Add(isStretch ? new WrittenTensor(entries[i].Key, storage, view.Start - first.Start, view.Sizes, view.Strides)
                : new WrittenTensor(entries[i].Key, storage, 0, view.Sizes, view.IsDense ? view.Strides : view.DenseStrides()));
        }

        return (storages, tensors);
    }

    /// <summary>Hands its bytes on, a piece at a time.</summary>
    /// <param name="piece">Bytes of a piece at most.</param>
    /// <param name="take">Takes a piece, which is valid until it returns.</param>
    public unsafe void Pieces(int piece, Action<ReadOnlyMemory<byte>> take)
    {
        using var detached = _first.detach();
        if (_isStretch)
        {
            // All within the memory of one storage: from the first element of one of its views to the last of another.
            using var stretch = detached.as_strided([Count], [1], detached.storage_offset());
            Dense(stretch);
        }
        else
        {
            Dense(detached);
        }

        void Dense(Tensor tensor)
        {
            using var export = TensorExport.Take(tensor.alias());
            for (var at = 0L; at < export.ByteLength; at += piece)
            {
                take(export.Slice(at, (int)Math.Min(piece, export.ByteLength - at)));
            }
        }
    }

    // Views of one memory, apart where none overlaps the other: what lies between them is not theirs to write.
    private static IEnumerable<List<View>> Overlapping(List<View> views)
    {
        views.Sort((a, b) => a.Start != b.Start ? a.Start.CompareTo(b.Start) : a.Index.CompareTo(b.Index));
        var cluster = new List<View>();
        var end = 0L;
        foreach (var view in views)
        {
            if (cluster.Count > 0 && view.Start >= end)
            {
                yield return cluster;
                cluster = [];
                end = 0;
            }

            cluster.Add(view);
            end = Math.Max(end, view.End);
        }

        yield return cluster;
    }

    /// <summary>A tensor, and where its elements are.</summary>
    private sealed class View
    {
        public View(int index, Tensor tensor)
        {
            (Index, Tensor, Type, Sizes, Strides) = (index, tensor, tensor.dtype.ToElementType(), tensor.shape, tensor.stride());
            IsDense = tensor.is_contiguous();
            if (tensor.numel() == 0)
            {
                // It has no memory to share.
                Memory = (-1 - index, Type);
            }
            else if (tensor.device_type != DeviceType.CPU || (tensor.is_complex() && tensor.is_conj()) || tensor.is_neg())
            {
                // Its bytes must be made first; only the very same tensor has the same.
                (Memory, End) = ((tensor.Handle, Type), 1);
            }
            else
            {
                Start = tensor.storage_offset();
                Memory = (Address(tensor) - (nint)(Start * Type.Size()), Type);
                End = Start + 1;
                for (var i = 0; i < Sizes.Length; i++)
                {
                    End += (Sizes[i] - 1) * Strides[i];
                }
            }
        }

        public int Index { get; }

        public Tensor Tensor { get; }

        public ElementType Type { get; }

        public long[] Sizes { get; }

        public long[] Strides { get; }

        public bool IsDense { get; }

        /// <summary>What is equal where the storage is.</summary>
        public (nint, ElementType) Memory { get; }

        public long Start { get; }

        public long End { get; }

        public long[] DenseStrides()
        {
            var strides = new long[Sizes.Length];
            var stride = 1L;
            for (var i = strides.Length - 1; i >= 0; i--)
            {
                strides[i] = stride;
                stride *= Math.Max(Sizes[i], 1);
            }

            return strides;
        }

        private static unsafe nint Address(Tensor tensor) => (nint)NativeTensors.Address(tensor);
    }
}
