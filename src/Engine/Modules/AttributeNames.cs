using System.Collections.Frozen;

namespace Sconce.Engine.Modules;

/// <summary>What a module can have under a name.</summary>
internal enum AttributeKind
{
    /// <summary>A parameter.</summary>
    Parameter,

    /// <summary>A buffer.</summary>
    Buffer,

    /// <summary>A child.</summary>
    Module,
}

/// <summary>PyTorch's rules for names: one name is one attribute of a module, whatever its kind.</summary>
internal static class AttributeNames
{
    /// <summary>Characters that a name may have.</summary>
    public const int MaxLength = 128;

    // dir(nn.Module()) of PyTorch 1.13 and 2, without dunders.
    private static readonly FrozenSet<string> OfModule = FrozenSet.ToFrozenSet([
        "T_destination", "_apply", "_backward_hooks", "_backward_pre_hooks", "_buffers", "_call_impl", "_compiled_call_impl", "_forward_hooks", "_forward_hooks_always_called", "_forward_hooks_with_kwargs",
        "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_get_backward_hooks", "_get_backward_pre_hooks", "_get_name", "_is_full_backward_hook", "_load_from_state_dict",
        "_load_state_dict_post_hooks", "_load_state_dict_pre_hooks", "_maybe_warn_non_full_backward_hook", "_modules", "_named_members", "_non_persistent_buffers_set", "_parameters",
        "_register_load_state_dict_pre_hook", "_register_state_dict_hook", "_replicate_for_data_parallel", "_save_to_state_dict", "_slow_forward", "_state_dict_hooks", "_state_dict_pre_hooks",
        "_version", "_wrapped_call_impl", "add_module", "apply", "bfloat16", "buffers", "call_super_init", "children", "compile", "cpu", "cuda", "double", "dump_patches", "eval", "extra_repr", "float", "forward",
        "get_buffer", "get_extra_state", "get_parameter", "get_submodule", "half", "ipu", "load_state_dict", "modules", "mtia", "named_buffers", "named_children", "named_modules",
        "named_parameters", "parameters", "register_backward_hook", "register_buffer", "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
        "register_full_backward_pre_hook", "register_load_state_dict_post_hook", "register_load_state_dict_pre_hook", "register_module", "register_parameter", "register_state_dict_post_hook",
        "register_state_dict_pre_hook", "requires_grad_", "set_extra_state", "set_submodule", "share_memory", "state_dict", "to", "to_empty", "train", "training", "type", "xpu", "zero_grad",
    ]);

    private static readonly FrozenSet<string> OfLists = FrozenSet.ToFrozenSet(["append", "extend", "insert", "pop"]);
    private static readonly FrozenSet<string> OfDicts = FrozenSet.ToFrozenSet(["clear", "items", "keys", "pop", "update", "values"]);

    /// <summary>Why a name cannot be anybody's; null where it can.</summary>
    /// <param name="name">The name.</param>
    /// <param name="what">What would have it, e.g. <c>parameter</c>.</param>
    public static string? Problem(string name, string what) =>
        name.Length is 0 or > MaxLength || name.Contains('.', StringComparison.Ordinal) || name.Any(char.IsControl) || name == ModuleTree.ExtraStateKey
            ? $"{EngineException.Quote(name)} is no name for a {what}; expected 1 to {MaxLength} characters, no \".\" and no control characters{(name == ModuleTree.ExtraStateKey ? ", and this one is the state dict's own" : "")}"
            : null;

    /// <summary>Refuses a name that cannot be registered.</summary>
    /// <param name="node">The module.</param>
    /// <param name="path">Its path.</param>
    /// <param name="name">The name.</param>
    /// <param name="kind">What is to be registered.</param>
    /// <exception cref="EngineException">It is no name, or another kind of attribute has it.</exception>
    public static void Check(ModuleNode node, string path, string name, AttributeKind kind)
    {
        if (Problem(name, Of(kind)) is { } problem)
        {
            throw EngineException.Invalid("name", problem, "BAD_NAME");
        }

        if (Existing(node, name, kind) is { } what)
        {
            var full = ModuleTree.Join(path, name);
            throw EngineException.Precondition("ATTRIBUTE_EXISTS", $"attribute {EngineException.Quote(full)} already exists: it is {what} of the {node.TypeName}, and no {Of(kind)}; choose another name", new("attribute", full));
        }
    }

    private static string? Existing(ModuleNode node, string name, AttributeKind kind) =>
        node.Slots.Any(slot => slot.Name == name) ? kind == AttributeKind.Parameter ? null : "a parameter"
        : node.BufferSlots.Any(slot => slot.Name == name) ? kind == AttributeKind.Buffer ? null : "a buffer"
        : node.Children.Any(child => child.Key == name) ? kind == AttributeKind.Module ? null : "a child"
        : OfModule.Contains(name) || (node is SequentialNode or ModuleListNode && OfLists.Contains(name)) || (node is ModuleDictNode && OfDicts.Contains(name)) ? "a method or attribute"
        : node.Origin.Type.Arguments.Any(argument => argument.Name == name && name is not ("dtype" or "device")) || node.Origin.Type.ChildNames.Any(known => known.TrimEnd('?') == name) ? "a constructor argument"
        : null;

    private static string Of(AttributeKind kind) => kind switch { AttributeKind.Parameter => "parameter", AttributeKind.Buffer => "buffer", _ => "child" };
}
