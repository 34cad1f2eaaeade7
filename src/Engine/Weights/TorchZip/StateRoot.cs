namespace Sconce.Engine.Weights.TorchZip;

/// <summary>Finds the state dict in what a file holds: its root, or one that the caller names in a checkpoint of several things.</summary>
internal static class StateRoot
{
    private const int MostListed = 8;
    private const int DeepestListed = 3;
    private const int MostSearched = 1_000;

    // Dicts may hold themselves.
    private const int DeepestRoot = 16;

    /// <summary>The tensors of the state dict, in its order.</summary>
    /// <param name="root">What the file holds.</param>
    /// <param name="path">Keys from the root to the state dict, with dots between; null or empty is the root.</param>
    /// <exception cref="EngineException">There is none, or something in it is no tensor.</exception>
    public static List<(string Key, PickledTensor Tensor)> Select(in PickleValue root, string? path)
    {
        var what = string.IsNullOrEmpty(path) ? "the root of the PyTorch file" : $"{EngineException.Quote(path)} of the PyTorch file";
        var chosen = string.IsNullOrEmpty(path) ? root : Find(root, path);
        var dict = chosen.Dict ?? throw Refused($"{what} is {chosen.Described}; a state dict is a dict of names and tensors{Choices(root)}");
        if (dict.Entries.Count > TorchZipLimits.Tensors)
        {
            throw TorchZipErrors.Limit($"{what} has {dict.Entries.Count:N0} entries; at most {TorchZipLimits.Tensors:N0} are taken");
        }

        var tensors = new List<(string, PickledTensor)>(dict.Entries.Count);
        var others = new List<string>();
        var names = new HashSet<string>(dict.Entries.Count, StringComparer.Ordinal);
        foreach (var (key, value) in dict.Entries)
        {
            if (key.Text is { } name && value.Tensor is { } tensor)
            {
                CheckName(name);
                tensors.Add(names.Add(name) ? (name, tensor) : throw Refused($"{EngineException.Quote(name)} is there twice"));
            }
            else if (others.Count <= MostListed)
            {
                others.Add(others.Count == MostListed ? "…" : $"{Shown(key)} is {(key.Text is null ? "under no name" : value.Described)}");
            }
        }

        return others.Count == 0 ? tensors : throw Refused($"{what} holds more than tensors under names: {string.Join(", ", others)}{Choices(root)}");
    }

    // A key may have dots itself: the longest key that is there is the one that is meant.
    private static PickleValue Find(in PickleValue root, string path)
    {
        if (path.Length > TorchZipLimits.KeyLength)
        {
            throw Refused($"root has {path.Length:N0} characters; at most {TorchZipLimits.KeyLength:N0} are possible");
        }

        var (at, rest) = (root, path);
        for (var level = 0; level < DeepestRoot; level++)
        {
            var (length, found) = (-1, default(PickleValue));
            foreach (var (key, value) in at.Dict?.Entries ?? [])
            {
                // As Python: of two entries with one key the last.
                if (key.Text is { } name && name.Length >= length && rest.StartsWith(name, StringComparison.Ordinal) && (name.Length == rest.Length || rest[name.Length] == '.'))
                {
                    (length, found) = (name.Length, value);
                }
            }

            if (length == rest.Length)
            {
                return found;
            }

            if (length < 0)
            {
                break;
            }

            (at, rest) = (found, rest[(length + 1)..]);
        }

        var reached = rest.Length == path.Length ? "" : $": {EngineException.Quote(path[..^(rest.Length + 1)])} is {at.Described} without {EngineException.Quote(rest)}";
        throw Refused($"the PyTorch file holds nothing under {EngineException.Quote(path)}{reached}{Choices(root)}");
    }

    private static string Choices(in PickleValue root)
    {
        var found = new List<string>();
        var queue = new Queue<(string Path, PickleDict Dict, int Depth)>();
        var seen = new HashSet<object>(ReferenceEqualityComparer.Instance);
        var searched = 0;
        if (root.Dict is { } top && seen.Add(top))
        {
            queue.Enqueue(("", top, 0));
        }

        while (found.Count < MostListed && queue.TryDequeue(out var at))
        {
            foreach (var (key, value) in at.Dict.Entries)
            {
                if (++searched > MostSearched)
                {
                    break;
                }

                // One that is there under several names is looked at once.
                if (key.Text is { } name && value.Dict is { } dict && seen.Add(dict))
                {
                    var path = at.Path.Length == 0 ? name : $"{at.Path}.{name}";
                    if (dict.IsState && found.Count < MostListed)
                    {
                        found.Add($"{EngineException.Quote(path)} ({dict.Entries.Count:N0} tensors)");
                    }
                    else if (at.Depth < DeepestListed)
                    {
                        queue.Enqueue((path, dict, at.Depth + 1));
                    }
                }
            }
        }

        return found.Count == 0 ? "; it holds no state dict that could be chosen: save one by torch.save(module.state_dict(), path)"
            : $"; state dicts are under {string.Join(", ", found)}: choose one by root_key";
    }

    private static void CheckName(string name)
    {
        if (name.Length is 0 or > TorchZipLimits.KeyLength || name.Any(char.IsControl))
        {
            throw Refused(name.Length == 0 ? "a tensor of the PyTorch file has an empty name"
                : name.Length > TorchZipLimits.KeyLength ? $"{EngineException.Quote(name)} has {name.Length:N0} characters; at most {TorchZipLimits.KeyLength:N0} are possible"
                : $"{EngineException.Quote(name)} has a control character in it");
        }
    }

    private static string Shown(in PickleValue key) => key.Text is { } name ? EngineException.Quote(name) : key.Kind == PickleKind.Int ? $"{key.Number}" : key.Described;

    private static EngineException Refused(string what) => new(EngineError.InvalidArgument, "STATE_DICT_NOT_FOUND", what);
}
