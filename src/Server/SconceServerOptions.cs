using Microsoft.Extensions.Logging;
using Sconce.Engine.Execution;

namespace Sconce.Server;

/// <summary>How a server listens, what it allows, and how its engine is set up. <see cref="ServerSettings"/> lists every setting with its name outside the code.</summary>
public sealed class SconceServerOptions
{
    /// <summary>IP address to listen on, or <c>none</c> for no TCP at all. Anything but loopback needs <see cref="Insecure"/>.</summary>
    public string Address { get; set; } = "127.0.0.1";

    /// <summary>TCP port; 0 takes a free one, which the server prints and can write to <see cref="AddressFile"/>.</summary>
    public int Port { get; set; } = 50051;

    /// <summary>Path of a Unix socket to listen on as well, readable by this user only; empty for none.</summary>
    public string UnixSocket { get; set; } = "";

    /// <summary>
    /// Path of a Unix socket of its own on which callers of this host and user rent memory that they and the server both have, to load weights from; empty for none. Linux only.
    /// </summary>
    public string SharedMemorySocket { get; set; } = "";

    /// <summary>Allows plaintext on an address that other machines can reach.</summary>
    public bool Insecure { get; set; }

    /// <summary>File to write the chosen addresses to, one a line, once the server accepts calls; empty for none. Written whole or not at all.</summary>
    public string AddressFile { get; set; } = "";

    /// <summary>Serves gRPC reflection, which shows the contract to any caller.</summary>
    public bool Reflection { get; set; }

    /// <summary>Least severe log level written. At <see cref="LogLevel.Debug"/> every call is logged.</summary>
    public LogLevel LogLevel { get; set; } = LogLevel.Information;

    /// <summary>How log lines are written.</summary>
    public LogFormat LogFormat { get; set; } = LogFormat.Text;

    /// <summary>Most bytes of one message, after decompression.</summary>
    public long MaxMessageBytes { get; set; } = 256L << 20;

    /// <summary>Most calls open at once on one connection; the rest wait in the client.</summary>
    public int MaxCallsPerConnection { get; set; } = 1024;

    /// <summary>How long work in flight may take to finish once the server was told to stop.</summary>
    public TimeSpan DrainTimeout { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>How long the answer to a <c>request_id</c> is remembered.</summary>
    public TimeSpan RequestIdRetention { get; set; } = TimeSpan.FromMinutes(10);

    /// <summary>Most answers remembered; beyond it the oldest is forgotten.</summary>
    public int RequestIdCapacity { get; set; } = 65_536;

    /// <summary>Most bytes of remembered answers together; beyond it the oldest is forgotten.</summary>
    public long RequestIdMaxBytes { get; set; } = 64L << 20;

    /// <summary>Most requests of one ForwardStream or TrainStream that are worked on at once; beyond it the stream is not read.</summary>
    public int StreamInFlight { get; set; } = 32;

    /// <summary>Longest silence within an upload, and longest wait for a caller that does not read a download of state.</summary>
    public TimeSpan StreamIdleTimeout { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>Least average rate of an upload, after a grace of 5 seconds.</summary>
    public long StreamMinBytesPerSecond { get; set; } = 4096;

    /// <summary>How long an upload with an <c>upload_id</c> is kept for another stream to go on with, after its own has ended.</summary>
    public TimeSpan UploadTtl { get; set; } = TimeSpan.FromMinutes(5);

    /// <summary>Most uploads with an <c>upload_id</c> at once, those that wait for another stream among them.</summary>
    public int MaxUploads { get; set; } = 64;

    /// <summary>Time between heartbeats of an open session.</summary>
    public TimeSpan SessionHeartbeat { get; set; } = TimeSpan.FromSeconds(15);

    /// <summary>The engine: device, threads, memory, queues.</summary>
    public EngineOptions Engine { get; } = new();
}
