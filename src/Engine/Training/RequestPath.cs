namespace Sconce.Engine.Training;

/// <summary>Paths of fields in a request.</summary>
internal static class RequestPath
{
    /// <summary>A field of the message at a path; the path is empty for the request itself.</summary>
    public static string Join(string message, string field) => message.Length == 0 ? field : $"{message}.{field}";
}
