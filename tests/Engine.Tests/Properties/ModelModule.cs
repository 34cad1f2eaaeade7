using Sconce.Engine.Tensors;

namespace Sconce.Engine.Tests.Properties;

/// <summary>A tensor of the model: its dtype, and its elements as numbers.</summary>
internal sealed class ModelTensor(string name, long[] shape, bool isInteger = false)
{
    public string Name => name;

    public long[] Shape => shape;

    public ElementType Type { get; set; } = isInteger ? ElementType.Int64 : ElementType.Float32;

    public double[] Values { get; set; } = [];

    public double[]? Gradient { get; set; }

    public bool RequiresGrad { get; set; } = true;

    public int Count => (int)shape.Aggregate(1L, (product, size) => product * size);
}

/// <summary>A module of the model: what PyTorch says of names, order, sharing and modes, in a few lines and without tensors.</summary>
internal sealed class ModelModule(string type, IReadOnlyList<ModelTensor> parameters, IReadOnlyList<ModelTensor> buffers)
{
    public string Type => type;

    public IReadOnlyList<ModelTensor> Parameters => parameters;

    public IReadOnlyList<ModelTensor> Buffers => buffers;

    public List<(string Name, ModelModule Module)> Children { get; } = [];

    /// <summary>What train was called with last.</summary>
    public bool Mode { get; set; } = true;

    public bool IsNorm => type.Contains("BatchNorm", StringComparison.Ordinal) || type.StartsWith("InstanceNorm", StringComparison.Ordinal);

    /// <summary>named_modules: each once, under its first name.</summary>
    public IReadOnlyList<(string Path, ModelModule Module)> Modules()
    {
        var seen = new List<(string Path, ModelModule Module)>();
        Visit("", this);
        return seen;

        void Visit(string path, ModelModule module)
        {
            if (seen.All(known => known.Module != module))
            {
                seen.Add((path, module));
                module.Children.ForEach(child => Visit(Join(path, child.Name), child.Module));
            }
        }
    }

    /// <summary>Every name of every module.</summary>
    public IEnumerable<(string Path, ModelModule Module)> Paths(string path = "") =>
        Children.SelectMany(child => child.Module.Paths(Join(path, child.Name))).Prepend((path, this));

    /// <summary>state_dict: every name of every tensor.</summary>
    public IReadOnlyList<(string Key, ModelTensor Tensor)> State() =>
        [.. Paths().SelectMany(at => at.Module.Parameters.Concat(at.Module.Buffers).Select(tensor => (Join(at.Path, tensor.Name), tensor)))];

    public ModelModule At(string path) => Paths().First(at => at.Path == path).Module;

    private static string Join(string path, string name) => path.Length == 0 ? name : $"{path}.{name}";
}
