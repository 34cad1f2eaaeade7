using Sconce.Engine.Storage;

namespace Sconce.Engine.Tests.Snapshots;

/// <summary>The disk went dark: nothing after this happens, and nobody may take it for an error that can be handled.</summary>
internal sealed class PowerCutException : Exception;

/// <summary>What an injected fault does.</summary>
internal enum Fault
{
    /// <summary>The operation fails and has no effect; of a flush, the system then forgets what was to be flushed, as Linux does.</summary>
    Fail,

    /// <summary>Half of what was to be written is; then it fails.</summary>
    WriteHalf,

    /// <summary>The power is cut before the operation.</summary>
    PowerCut,
}

/// <summary>
/// A disk in memory that knows what of it is durable. Bytes are once their file was flushed, names once their directory was; what is not, a power cut may keep, lose or
/// tear, each thing by itself. It records what changes it, and fails where it is told to.
/// </summary>
internal sealed class FaultDisk : IDisk
{
    private readonly Lock _gate = new();
    private readonly Folder _root = new();
    private readonly List<NameChange> _pending = [];
    private readonly HashSet<string> _locks = new(StringComparer.Ordinal);
    private bool _isDark;

    /// <summary>What changed the disk, in order.</summary>
    public List<string> Operations { get; } = [];

    /// <summary>Asked before each operation, with its index and text.</summary>
    public Func<int, string, Fault?> Inject { get; set; } = (_, _) => null;

    /// <summary>The error number of an injected failure; EIO where it is not set.</summary>
    public int ErrorNumber { get; set; } = 5;

    /// <summary>Asked before a file is opened or read; the error number to fail with, or 0.</summary>
    public Func<string, int> InjectRead { get; set; } = _ => 0;

    /// <summary>The disk as a process finds it that starts after this one was killed: all is there, durable or not.</summary>
    public FaultDisk AfterKill()
    {
        var clone = new FaultDisk();
        var nodes = new Dictionary<Node, Node> { [_root] = clone._root };
        Copy(_root, clone._root, nodes);
        foreach (var change in _pending)
        {
            clone._pending.Add(change.Clone(node => Map(node, nodes)));
        }

        return clone;
    }

    /// <summary>The disks that may be there after a power cut now: all combinations where they are few, else the extremes and a sample.</summary>
    public IEnumerable<FaultDisk> AfterPowerCut(Random random, int sample)
    {
        var count = _pending.Count;
        IEnumerable<Func<int, bool>> choices = 1L << Math.Min(count, 30) <= sample
            ? Enumerable.Range(0, 1 << count).Select(mask => (Func<int, bool>)(i => (mask & (1 << i)) != 0))
            : Enumerable.Range(0, sample).Select(at => at switch
            {
                0 => _ => false,
                1 => _ => true,
                _ when at < 2 + count => i => i != at - 2,
                _ => (Func<int, bool>)(_ => random.Next(2) == 0),
            });
        foreach (var choice in choices)
        {
            // Whole, lost, cut short, zeros instead of the last bytes; then each file by itself.
            for (var tear = 0; tear < (HasUnflushedBytes(_root) ? 5 : 1); tear++)
            {
                yield return Image(choice, tear == 4 ? () => random.Next(4) : () => tear);
            }
        }
    }

    /// <summary>All files, by path, for tests that damage them.</summary>
    public IEnumerable<(string Path, byte[] Bytes)> Files(string directory)
    {
        foreach (var (name, node) in Find<Folder>(directory).Live)
        {
            var path = Path.Combine(directory, name);
            foreach (var file in node is Bytes bytes ? [(path, bytes.Live.ToArray())] : Files(path))
            {
                yield return file;
            }
        }
    }

    /// <summary>Replaces a file's content behind everybody's back.</summary>
    public void Replace(string path, byte[] bytes)
    {
        var file = Find<Bytes>(path);
        file.Live = [.. bytes];
        file.Durable = bytes;
    }

    /// <summary>Whether there is a file or directory.</summary>
    public bool Exists(string path) => Find<Folder>(Path.GetDirectoryName(path)!).Live.ContainsKey(Path.GetFileName(path));

    public bool DirectoryExists(string path)
    {
        lock (_gate)
        {
            return TryFind(path) is Folder;
        }
    }

    public void CreateDirectory(string path) => Do($"mkdir {path}", () =>
    {
        var (folder, name) = Parent(path);
        if (!folder.Live.ContainsKey(name))
        {
            Put(folder, name, new Folder());
        }
    });

    public IReadOnlyList<DiskEntry> List(string path)
    {
        lock (_gate)
        {
            return [.. Find<Folder>(path).Live.Select(entry => new DiskEntry(entry.Key, entry.Value is Folder))];
        }
    }

    public IDiskWriter Create(string path, bool isPrivate = true)
    {
        var file = new Bytes();
        Do($"create {path}", () =>
        {
            var (folder, name) = Parent(path);
            if (folder.Live.ContainsKey(name))
            {
                throw new IOException($"{path} is there", 17);
            }

            Put(folder, name, file);
        });
        return new Writer(this, path, file);
    }

    public IDiskReader Open(string path)
    {
        lock (_gate)
        {
            ThrowRead(path);
            return TryFind(path) is Bytes file ? new Reader(this, path, file) : throw new FileNotFoundException($"there is no file {path}");
        }
    }

    public void FlushDirectory(string path) => Do($"flushdir {path}", () =>
    {
        var folder = Find<Folder>(path);
        foreach (var change in _pending.ToList())
        {
            if (change.Flush(folder))
            {
                change.Apply(node => node.Durable);
                _pending.Remove(change);
            }
        }
    });

    public void Rename(string from, string to) => Do($"rename {from} {to}", () =>
    {
        var ((source, name), (target, newName)) = (Parent(from), Parent(to));
        if (target.Live.ContainsKey(newName))
        {
            throw new IOException($"{to} is there", 17);
        }

        Change(new NameChange(source, name, target, newName, source.Live.TryGetValue(name, out var node) ? node : throw new DirectoryNotFoundException($"there is no {from}")));
    });

    public void Replace(string from, string to) => Do($"replace {from} {to}", () =>
    {
        var ((source, name), (target, newName)) = (Parent(from), Parent(to));
        Change(new NameChange(source, name, target, newName, source.Live.TryGetValue(name, out var node) ? node : throw new FileNotFoundException($"there is no {from}")));
    });

    public void DeleteFile(string path) => Do($"delete {path}", () => Remove(path, Find<Bytes>(path)));

    public void DeleteDirectory(string path) => Do($"rmdir {path}", () =>
    {
        var folder = Find<Folder>(path);
        Remove(path, folder.Live.Count == 0 ? folder : throw new IOException($"{path} is not empty", 39));
    });

    public IDisposable? Lock(string path)
    {
        lock (_gate)
        {
            if (!_locks.Add(path))
            {
                return null;
            }

            return new Held(this, path);
        }
    }

    private static void Copy(Folder from, Folder to, Dictionary<Node, Node> nodes)
    {
        foreach (var (name, node) in from.Live)
        {
            to.Live[name] = Map(node, nodes);
        }

        foreach (var (name, node) in from.Durable)
        {
            to.Durable[name] = Map(node, nodes);
        }
    }

    private static Node Map(Node node, Dictionary<Node, Node> nodes)
    {
        if (nodes.TryGetValue(node, out var known))
        {
            return known;
        }

        if (node is Bytes bytes)
        {
            return nodes[node] = new Bytes { Live = [.. bytes.Live], Durable = bytes.Durable, IsForgotten = bytes.IsForgotten };
        }

        var folder = new Folder();
        nodes[node] = folder;
        Copy((Folder)node, folder, nodes);
        return folder;
    }

    private static bool HasUnflushedBytes(Folder folder) =>
        folder.Live.Values.Any(node => node is Folder inner ? HasUnflushedBytes(inner) : node is Bytes { IsWhole: false });

    private static byte[] Torn(Bytes file, int tear)
    {
        var live = file.Live.ToArray();
        if (tear == 3)
        {
            live.AsSpan(live.Length / 2).Clear();
        }

        return file.IsWhole ? file.Durable : tear switch { 0 => live, 1 => file.Durable, 2 => live[..(live.Length / 2)], _ => live };
    }

    private FaultDisk Image(Func<int, bool> isKept, Func<int> tear)
    {
        var views = new Dictionary<Folder, Dictionary<string, Node>>();
        for (var i = 0; i < _pending.Count; i++)
        {
            if (isKept(i))
            {
                _pending[i].Apply(View);
            }
        }

        var disk = new FaultDisk();
        Build(_root, disk._root);
        return disk;

        Dictionary<string, Node> View(Folder folder) => views.TryGetValue(folder, out var view) ? view : views[folder] = new(folder.Durable, StringComparer.Ordinal);

        void Build(Folder from, Folder to)
        {
            foreach (var (name, node) in View(from))
            {
                if (node is Bytes file)
                {
                    var bytes = Torn(file, tear());
                    to.Live[name] = to.Durable[name] = new Bytes { Live = [.. bytes], Durable = bytes };
                }
                else
                {
                    var folder = new Folder();
                    to.Live[name] = to.Durable[name] = folder;
                    Build((Folder)node, folder);
                }
            }
        }
    }

    private void Do(string operation, Action act, Action<Fault>? failing = null)
    {
        lock (_gate)
        {
            var fault = _isDark ? Fault.PowerCut : Inject(Operations.Count, operation);
            if (fault == Fault.PowerCut)
            {
                _isDark = true;
                throw new PowerCutException();
            }

            Operations.Add(operation);
            if (fault is { } other)
            {
                failing?.Invoke(other);
                throw new IOException($"injected: {operation}", ErrorNumber);
            }

            act();
        }
    }

    private void ThrowRead(string path)
    {
        if (InjectRead(path) is var error and not 0)
        {
            throw error == 2 ? new FileNotFoundException($"injected: {path}") : new IOException($"injected: {path}", error);
        }
    }

    private void Put(Folder folder, string name, Node node) => Change(new NameChange(null, null, folder, name, node));

    private void Remove(string path, Node node)
    {
        var (folder, name) = Parent(path);
        Change(new NameChange(folder, name, null, null, node));
    }

    private void Change(NameChange change)
    {
        change.Apply(folder => folder.Live);
        _pending.Add(change);
    }

    private (Folder Folder, string Name) Parent(string path) => (Find<Folder>(Path.GetDirectoryName(path)!), Path.GetFileName(path));

    private T Find<T>(string path)
        where T : Node => TryFind(path) as T ?? throw new DirectoryNotFoundException($"there is no {path}");

    private Node? TryFind(string path)
    {
        Node? node = _root;
        foreach (var name in path.Split('/', StringSplitOptions.RemoveEmptyEntries))
        {
            node = (node as Folder)?.Live.GetValueOrDefault(name);
        }

        return node;
    }

    private abstract class Node;

    private sealed class Folder : Node
    {
        public Dictionary<string, Node> Live { get; } = new(StringComparer.Ordinal);

        public Dictionary<string, Node> Durable { get; } = new(StringComparer.Ordinal);
    }

    private sealed class Bytes : Node
    {
        public List<byte> Live { get; set; } = [];

        public byte[] Durable { get; set; } = [];

        /// <summary>A flush failed: what was not durable then never will be, whatever later flushes say.</summary>
        public bool IsForgotten { get; set; }

        public bool IsWhole => Live.Count == Durable.Length && Live.SequenceEqual(Durable);
    }

    /// <summary>A name that came, went or moved and is not durable yet.</summary>
    private sealed class NameChange(Folder? from, string? name, Folder? to, string? newName, Node node)
    {
        private bool _isFromFlushed = from is null;
        private bool _isToFlushed = to is null;

        /// <summary>Whether it is durable, now that this directory was flushed.</summary>
        public bool Flush(Folder folder)
        {
            _isFromFlushed |= folder == from;
            _isToFlushed |= folder == to;
            return _isFromFlushed && _isToFlushed;
        }

        public void Apply(Func<Folder, Dictionary<string, Node>> view)
        {
            // One that builds on another that was lost is lost too.
            if (from is null || (view(from).TryGetValue(name!, out var known) && known == node && view(from).Remove(name!)))
            {
                if (to is not null)
                {
                    view(to)[newName!] = node;
                }
            }
        }

        public NameChange Clone(Func<Node, Node> map) =>
            new NameChange(from is null ? null : (Folder)map(from), name, to is null ? null : (Folder)map(to), newName, map(node)) { _isFromFlushed = _isFromFlushed, _isToFlushed = _isToFlushed };
    }

    private sealed class Writer(FaultDisk disk, string path, Bytes file) : IDiskWriter
    {
        public void Write(ReadOnlySpan<byte> bytes)
        {
            var copy = bytes.ToArray();
            disk.Do($"write {path}", () => file.Live.AddRange(copy), fault => file.Live.AddRange(fault == Fault.WriteHalf ? copy[..(copy.Length / 2)] : []));
        }

        public void Flush() => disk.Do(
            $"flush {path}",
            () => file.Durable = file.IsForgotten ? file.Durable : [.. file.Live],
            _ => file.IsForgotten = true);

        public void Dispose()
        {
        }
    }

    private sealed class Reader(FaultDisk disk, string path, Bytes file) : IDiskReader
    {
        public long Length => file.Live.Count;

        public int Read(Span<byte> buffer, long offset)
        {
            lock (disk._gate)
            {
                disk.ThrowRead(path);
                var count = (int)Math.Clamp(file.Live.Count - offset, 0, buffer.Length);
                System.Runtime.InteropServices.CollectionsMarshal.AsSpan(file.Live).Slice((int)Math.Min(offset, file.Live.Count), count).CopyTo(buffer);
                return count;
            }
        }

        public void Dispose()
        {
        }
    }

    private sealed class Held(FaultDisk disk, string path) : IDisposable
    {
        public void Dispose()
        {
            lock (disk._gate)
            {
                disk._locks.Remove(path);
            }
        }
    }
}
