using Sconce.Engine.Catalog;
using Sconce.Engine.PlugIns;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>Builds trees from specs.</summary>
public static class ModuleBuilder
{
    /// <summary>Builds a module, in training mode, with PyTorch's initial values.</summary>
    /// <param name="spec">What to build.</param>
    /// <param name="floatType">Floating dtype of parameters and buffers.</param>
    /// <param name="limits">How large it may be.</param>
    /// <exception cref="EngineException">The spec is wrong; its fields are paths such as <c>spec.children[1].args.bias</c>.</exception>
    public static ModuleTree Build(ModuleSpec spec, ElementType floatType, BuildLimits limits) => Build(spec, floatType, limits, PlugInTypes.None);

    /// <summary>The same, where the spec may name types of plug-ins.</summary>
    internal static ModuleTree Build(ModuleSpec spec, ElementType floatType, BuildLimits limits, PlugInTypes plugIns, bool initialise = true) =>
        Build(spec, floatType, new BuildContext(onMeta: false, initialise, limits) { PlugIns = plugIns });

    /// <summary>Bytes that parameters and buffers of a spec take, learnt without taking them.</summary>
    /// <param name="spec">What would be built.</param>
    /// <param name="floatType">Floating dtype of parameters and buffers.</param>
    /// <param name="limits">How large it may be; the defaults where null.</param>
    /// <exception cref="EngineException">The spec is wrong.</exception>
    public static long EstimateBytes(ModuleSpec spec, ElementType floatType, BuildLimits? limits = null) =>
        EstimateBytes(spec, floatType, limits ?? new BuildLimits(), PlugInTypes.None);

    /// <summary>The same, where the spec may name types of plug-ins, which count as nothing: what they take is known when they are made.</summary>
    internal static long EstimateBytes(ModuleSpec spec, ElementType floatType, BuildLimits limits, PlugInTypes plugIns)
    {
        using var tree = Build(spec, floatType, new BuildContext(onMeta: true, initialise: false, limits) { PlugIns = plugIns });
        return tree.Bytes;
    }

    private static ModuleTree Build(ModuleSpec spec, ElementType floatType, BuildContext context)
    {
        ArgumentNullException.ThrowIfNull(spec);
        if (!floatType.IsFloatingPoint())
        {
            throw EngineException.Invalid("dtype", $"{floatType.Name()} was given; parameters are made in float16, bfloat16, float32 or float64");
        }

        // The scope frees what was made when a later part of the spec turns out to be wrong.
        using var scope = NewDisposeScope();
        using var normal = inference_mode(false);
        using var grad = set_grad_enabled(true);
        ModuleNode root;
        try
        {
            var reader = new SpecReader(context, floatType);
            root = reader.Read(spec, "", "spec", 1);
            reader.Register(root, spec);
        }
        catch (Exception exception) when (CallFailure.IsNative(exception))
        {
            throw CallFailure.Translate(exception, $"building {spec.Type}", [], "spec");
        }

        TreeSize.Check(root, context.Limits, "spec");
        Keep(root);
        return new ModuleTree(root);
    }

    /// <summary>Takes a tree's tensors out of the dispose scope they were made in.</summary>
    internal static void Keep(ModuleNode root)
    {
        foreach (var (_, node) in ModuleTree.Walk(root))
        {
            foreach (var (_, parameter) in node.Parameters)
            {
                parameter.DetachFromDisposeScope();
            }

            foreach (var buffer in node.Buffers)
            {
                buffer.Tensor.DetachFromDisposeScope();
            }

            node.ExtraState?.DetachFromDisposeScope();
        }
    }
}
