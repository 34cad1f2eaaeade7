using System.Buffers;
using Microsoft.AspNetCore.Connections;

namespace Sconce.Server.Transport;

/// <summary>Gives Kestrel and its sockets a <see cref="WarmBlockPool"/> wherever they make a pool.</summary>
internal sealed class WarmBlockPoolFactory(TimeProvider time) : IMemoryPoolFactory<byte>
{
    public MemoryPool<byte> Create(MemoryPoolOptions? options = null) => new WarmBlockPool(time);
}
